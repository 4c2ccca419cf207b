"""Draw and render garments: outlines, fabrics, prints, backgrounds and light."""
