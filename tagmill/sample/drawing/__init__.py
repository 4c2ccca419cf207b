"""Drawing for the sample catalog: fabrics, prints, backgrounds, outlines and rendering."""
