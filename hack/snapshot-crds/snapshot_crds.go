// Package snapshotcrds pins the version of the snapshot definitions that the test of the guide installs.
package snapshotcrds
