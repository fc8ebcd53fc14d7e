package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
)

// The health expressions of a kind.
type fluxHealth struct{ inProgress, failed, current string }

func fluxExpressions(root string) (map[string]fluxHealth, error) {
	text, err := os.ReadFile(filepath.Join(root, "config/gitops/flux/objects.yaml"))
	if err != nil {
		return nil, err
	}
	object, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("objects.yaml: %w", err)
	}
	list, _ := at(object, "spec", "healthCheckExprs").([]any)
	all := map[string]fluxHealth{}
	for _, item := range list {
		kind, _ := at(item, "kind").(string)
		field := func(name string) string {
			expression, _ := at(item, name).(string)
			return strings.TrimSpace(expression)
		}
		health := fluxHealth{field("inProgress"), field("failed"), field("current")}
		if at(item, "apiVersion") != "busbar.dev/v1alpha1" || health.inProgress == "" || health.failed == "" || health.current == "" {
			return nil, fmt.Errorf("objects.yaml: incomplete healthCheckExprs of %q", kind)
		}
		all[kind] = health
	}
	for _, kind := range kinds() {
		if _, there := all[kind]; !there || len(all) != len(statesOf) {
			return nil, fmt.Errorf("objects.yaml: healthCheckExprs must have exactly the kinds %v", kinds())
		}
	}
	return all, nil
}

// The status by Flux's rules (RFC 0009): a generation that is not observed is InProgress; then the first of inProgress,
// failed and current that is true; else InProgress.
func (h fluxHealth) status(object map[string]any) (string, error) {
	if observed, ok := at(object, "status", "observedGeneration").(int64); ok {
		if generation, ok := at(object, "metadata", "generation").(int64); ok && observed != generation {
			return "InProgress", nil
		}
	}
	for _, step := range []struct{ expression, status string }{
		{h.inProgress, "InProgress"}, {h.failed, "Failed"}, {h.current, "Current"},
	} {
		found, err := evaluate(step.expression, object)
		if err != nil {
			return "", fmt.Errorf("%s: %w", step.expression, err)
		}
		if found {
			return step.status, nil
		}
	}
	return "InProgress", nil
}

// Evaluates an expression in the environment that Flux offers: the object's fields are the variables.
func evaluate(expression string, object map[string]any) (bool, error) {
	env, err := cel.NewEnv(cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(),
		ext.Strings(), ext.Sets(), ext.Encoders())
	if err != nil {
		return false, err
	}
	parsed, issues := env.Parse(expression)
	if issues != nil && issues.Err() != nil {
		return false, issues.Err()
	}
	program, err := env.Program(parsed, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return false, err
	}
	value, _, err := program.Eval(object)
	if err != nil {
		return false, err
	}
	result, ok := value.Value().(bool)
	if !ok {
		return false, fmt.Errorf("%v is no boolean", value)
	}
	return result, nil
}

func checkFlux(root string, recordings []recording) error {
	expressions, err := fluxExpressions(root)
	if err != nil {
		return err
	}
	return fluxDifferences(expressions, recordings)
}

func fluxDifferences(expressions map[string]fluxHealth, recordings []recording) error {
	var wrong []error
	for _, r := range recordings {
		// The definitions give every object a status, and Flux reads from the API server only.
		if r.object["status"] == nil {
			continue
		}
		status, err := expressions[r.kind].status(r.object)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", r, err))
		} else if status != states[r.state].flux {
			wrong = append(wrong, fmt.Errorf("%s: %s, expected %s", r, status, states[r.state].flux))
		}
	}
	return errors.Join(wrong...)
}

// Expressions with a fault, each of which the recorded objects must reveal.
func checkFluxChanges(root string, recordings []recording) error {
	expressions, err := fluxExpressions(root)
	if err != nil {
		return err
	}
	for name, change := range map[string]func(*fluxHealth){
		"failed: false":            func(h *fluxHealth) { h.failed = "false" },
		"current: false":           func(h *fluxHealth) { h.current = "false" },
		"current: true":            func(h *fluxHealth) { h.current = "true"; h.inProgress = "false" },
		"current: Healthy":         func(h *fluxHealth) { h.current = strings.ReplaceAll(h.current, "Ready", "Healthy") },
		"inProgress: Ready":        func(h *fluxHealth) { h.inProgress = strings.ReplaceAll(h.inProgress, "Reconciling", "Ready") },
		"failed: status of False":  func(h *fluxHealth) { h.failed = strings.ReplaceAll(h.failed, "'True'", "'False'") },
		"current: without default": func(h *fluxHealth) { h.inProgress = "status.conditions.exists(c, c.kind == '')" },
	} {
		changed := map[string]fluxHealth{}
		for kind, health := range expressions {
			change(&health)
			changed[kind] = health
		}
		if fluxDifferences(changed, recordings) == nil {
			return fmt.Errorf("no recorded object reveals the change %q", name)
		}
	}
	return nil
}
