"""Images in, boxes out: what a detector needs beside the loop, each library imported where it is used.

Boxes and their scores (``boxes``, ``average_precision``) are plain numpy. Images are decoded by OpenCV
(``images``), answered by ONNX Runtime (``session``), and learned from by PyTorch with Ultralytics' YOLO11
(``network``, ``training``): the extra ``vision``, under the AGPL-3.0.
"""
