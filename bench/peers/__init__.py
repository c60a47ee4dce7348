"""Peers: this pipeline beside other ways to move a tensor through three processes or stages, each in its best mode.

    python -m bench.peers                                 every peer, about ten minutes; make bench-peers
    python -m bench.peers --peers pipeline,mosec --rounds 1 --seconds 0.2

    catalogue.py       the peers: where each runs, what it copies, what it includes
    environments.py    their environments below build/, which `make` fills
    session.py         a peer as a subject of `bench.measure`: a process that answers lines of JSON
    rounds.py          all peers in rotating order; one that fails is left out, and the others go on
    table.py, plot.py  what was measured as Markdown and as SVG (pure)
    foreign/           what runs in the environment of a peer: a driver for each, and the loop that they share

README.md of `bench` says how to read what they print.
"""
