// Package operatorcrds pins the version of Prometheus Operator whose custom resource definitions the tests install.
package operatorcrds
