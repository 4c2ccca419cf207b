"""Write tasks of Label Studio, with masks as brush strokes or as polygons."""
