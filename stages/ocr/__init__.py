"""Reading text off a page: the stages around a text detector and a text recogniser.

    file ──▶ page ──▶ (detector) ──▶ crops ──▶ (recogniser) ──▶ text ──▶ lines
             page.py                 crops.py  once each        text.py  lines.py
                                     boxes.py

The models are run by `stages.infer`; these are what lies between them.
"""
