"""Reading text off a page: the stages around a text detector and a text recogniser.

    file ──▶ DecodePage ──▶ (detector) ──▶ FindBoxes ──▶ CropBoxes ══▶ (recogniser) ══▶ DecodeText ══▶ JoinLines
             page.py                       boxes.py      crops.py      once for         text.py        lines.py
                                           regions.py                  each box

The models are run by `stages.infer`; these are what lies between them.
"""
