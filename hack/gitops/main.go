// Command gitops checks what Busbar ships for GitOps tools and kube-state-metrics: Argo CD's health script, Flux's health
// expressions and the CustomResourceState configuration, each over recorded objects of every state.
//
//	gitops ROOT           checks the files of the repository ROOT
//	gitops ROOT verdict   prints `argocd flux` for the object on stdin (JSON or YAML)
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[1] == "verdict" {
		return printVerdict(args[0])
	}
	if len(args) != 1 {
		return fmt.Errorf("usage: gitops ROOT [verdict]")
	}
	root := args[0]
	recordings, err := readRecordings(filepath.Join(root, "hack/gitops/testdata"))
	if err != nil {
		return err
	}
	checks := []struct {
		name string
		run  func() error
	}{
		{"every kind is recorded in every state", func() error { return checkStates(recordings) }},
		{"argocd: health of the recorded objects", func() error { return checkArgo(root, recordings) }},
		{"argocd: a changed script is noticed", func() error { return checkArgoChanges(root, recordings) }},
		{"flux: status of the recorded objects", func() error { return checkFlux(root, recordings) }},
		{"flux: a changed expression is noticed", func() error { return checkFluxChanges(root, recordings) }},
		{"kube-state-metrics: structure, paths and values", func() error { return checkStateMetrics(root, recordings) }},
	}
	failed := 0
	for _, check := range checks {
		if err := check.run(); err != nil {
			failed++
			fmt.Printf("FAILED  %s\n%v\n", check.name, err)
		} else {
			fmt.Printf("ok      %s\n", check.name)
		}
	}
	fmt.Printf("\ngitops: %d recorded objects, %d checks passed, %d failed\n", len(recordings), len(checks)-failed, failed)
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}

func printVerdict(root string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	object, err := decode(text)
	if err != nil {
		return err
	}
	scripts, err := argoScripts(root)
	if err != nil {
		return err
	}
	kind := kindOf(object)
	argo, err := argoHealth(scripts[kind], object)
	if err != nil {
		return err
	}
	expressions, err := fluxExpressions(root)
	if err != nil {
		return err
	}
	flux, err := expressions[kind].status(object)
	if err != nil {
		return err
	}
	fmt.Printf("%s %s\n", argo.Status, flux)
	return nil
}
