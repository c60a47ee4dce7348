"""Export of traces: spans, batches (both pure) ──▶ waiting ──▶ collector; the process is `processes.tracer`."""
