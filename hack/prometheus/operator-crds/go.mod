module busbar.dev/hack/prometheus/operator-crds

go 1.24.0

// Only its files are used: the custom resource definitions.
require github.com/prometheus-operator/prometheus-operator v0.85.0
