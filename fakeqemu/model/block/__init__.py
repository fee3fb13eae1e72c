"""The block room: node graph, image formats, devices' backends, jobs, bitmaps, exports."""
