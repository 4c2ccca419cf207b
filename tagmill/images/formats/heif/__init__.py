"""AVIF and HEIC: the pixels are taken out of their container (HEIF, ISO/IEC 23008-12) and decoded alone."""
