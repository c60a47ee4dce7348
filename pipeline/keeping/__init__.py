"""The keeper: the process `pipeline serve`. It holds the pipelines and what clients can change, and starts gateways.

    keeper ──▶ gateways (start and link of each process), models ──▶ folder
"""
