"""Video: the stages between a camera's frames and events, around a detector that `stages.infer` runs.

    frame ─▶ DetectMotion ─▶ Letterbox ─▶ (detector) ─▶ DecodeNanoDet ─▶ Track ─▶ {camera, time, tracks, events}
             detect_motion.py  letterbox.py             nanodet.py       track.py
               while nothing moves, what lies between is skipped ────────▲

A detector of any kind fits in if its stage gives what DecodeNanoDet gives: `detections` and `count`. A camera is a
stream of requests that are called by the camera's name (frame.py); DetectMotion and Track keep something from one frame
to the next (streams.py). What they decide is in modules without a stage:

    motion.py                              whether something moves
    geometry.py                            boxes and polygons
    kalman.py ◀── tracker.py               which box is which thing
    zones.py, event.py ◀── events.py       what happens to the things, by rules
    options.py ◀── cameras.py              what the YAML says
"""
