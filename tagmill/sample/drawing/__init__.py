"""How the sample catalog is drawn: fabrics, prints, backgrounds, outlines and pixels."""
