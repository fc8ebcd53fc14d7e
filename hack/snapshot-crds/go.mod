module busbar.dev/hack/snapshot-crds

go 1.24.0

// Only its files are used: the custom resource definitions.
require github.com/kubernetes-csi/external-snapshotter/client/v8 v8.4.0
