"""Generating, for `pipeline init`: from a model's file to a folder that runs: a YAML, two stages, a sample, a test.

    model.py     what the file declares, and what the model computes
    naming.py    names for its tensors and free dimensions, and how those of the outputs follow from the inputs. Pure.
    files.py     the text of each file. Pure.
    folder.py    puts them together; writes nothing

No code of the runtime imports it.
"""
