"""Annotations of objects, as annotation tools write them (VOC, YOLO, Labelme), checked and put into COCO's form."""
