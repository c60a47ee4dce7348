"""Pictures of a pipeline's graph: as Mermaid text and as SVG."""
