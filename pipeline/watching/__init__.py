"""Watching: the runs of this host as an operator sees them, from outside: `pipeline ps`, `stop`, `logs` and `top`.

    owner ──▶ processes ──▶ overview            what is found out: which process a run is, what it uses, how it is
                          ──▶ rates (pure)      two samples of a run make a frame of `pipeline top`
    view (pure)                                 which frame is shown, and in which order; keys change it
    keys    tail                                a terminal's keys; the lines of a file that grows
"""
