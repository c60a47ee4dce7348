"""OCR, reading the text on a page: the stages around a text detector and a text recogniser.

    file ──▶ DecodePage ──▶ (detector) ──▶ FindBoxes ──▶ CropBoxes ══▶ (recogniser) ══▶ DecodeText ══▶ JoinLines
             page.py                       boxes.py      crops.py      once for         text.py        lines.py
                                           regions.py                  each box

`stages.infer` runs the models; these stages lie between them.
"""
