"""`pipeline pod`: a plan as a Kubernetes Deployment, in which the pipeline is the sidecar of an app; `pipeline deploy`.

Pure, apart from `contents`, which looks for files.

    container    the machine that the pipeline's container will find
    demand       the CPUs, GPUs and memory that a plan needs there
    contents     what must be in its image, beside the config
    pod          the documents: a ConfigMap and a Deployment
    envoy        the configuration of an Envoy in front of several `pipeline serve`
    manifest     documents as YAML, with a comment at each number that needs one
"""
