package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// The configuration that kube-state-metrics reads from --custom-resource-state-config-file, as far as Busbar uses it.
type stateMetrics struct {
	Kind string `json:"kind"`
	Spec struct {
		Resources []stateResource `json:"resources"`
	} `json:"spec"`
}

type stateResource struct {
	GroupVersionKind struct {
		Group   string `json:"group"`
		Version string `json:"version"`
		Kind    string `json:"kind"`
	} `json:"groupVersionKind"`
	MetricNamePrefix string              `json:"metricNamePrefix"`
	LabelsFromPath   map[string][]string `json:"labelsFromPath"`
	Metrics          []stateMetric       `json:"metrics"`
}

type stateMetric struct {
	Name string `json:"name"`
	Help string `json:"help"`
	Each struct {
		Type     string       `json:"type"`
		Gauge    *stateValues `json:"gauge"`
		StateSet *stateValues `json:"stateSet"`
		Info     *stateValues `json:"info"`
	} `json:"each"`
}

// The fields of the three types together; usedFields says which type may have which.
type stateValues struct {
	Path           []string            `json:"path"`
	LabelsFromPath map[string][]string `json:"labelsFromPath"`
	ValueFrom      []string            `json:"valueFrom"`
	NilIsZero      bool                `json:"nilIsZero"`
	LabelName      string              `json:"labelName"`
	List           []string            `json:"list"`
}

var nameOfMetric = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func checkStateMetrics(root string, recordings []recording) error {
	text, err := os.ReadFile(filepath.Join(root, "config/kube-state-metrics/custom-resource-state.yaml"))
	if err != nil {
		return err
	}
	var config stateMetrics
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		return err
	}
	var wrong []error
	if config.Kind != "CustomResourceStateMetrics" {
		wrong = append(wrong, fmt.Errorf("kind %q", config.Kind))
	}
	seen := map[string]bool{}
	for _, resource := range config.Spec.Resources {
		kind := resource.GroupVersionKind.Kind
		if _, known := statesOf[kind]; !known || seen[kind] {
			wrong = append(wrong, fmt.Errorf("kind %q is unknown or twice", kind))
			continue
		}
		seen[kind] = true
		schema, err := schemaOf(root, kind)
		if err != nil {
			return err
		}
		for _, err := range resource.faults(schema, recordings) {
			wrong = append(wrong, fmt.Errorf("%s: %w", kind, err))
		}
	}
	if len(seen) != len(statesOf) {
		wrong = append(wrong, fmt.Errorf("only the kinds %v are there", seen))
	}
	return errors.Join(wrong...)
}

func (r stateResource) faults(schema map[string]any, recordings []recording) []error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if r.GroupVersionKind.Group != "busbar.dev" || r.GroupVersionKind.Version != "v1alpha1" {
		add("group or version")
	}
	if !slices.Equal(r.LabelsFromPath["name"], []string{"metadata", "name"}) ||
		!slices.Equal(r.LabelsFromPath["namespace"], []string{"metadata", "namespace"}) {
		add("labels name and namespace are missing")
	}
	names := map[string]bool{}
	for _, metric := range r.Metrics {
		name := r.MetricNamePrefix + "_" + metric.Name
		if !nameOfMetric.MatchString(name) || names[name] || metric.Help == "" {
			add("%s: invalid or used twice, or without help", name)
		}
		names[name] = true
		values := map[string]*stateValues{"Gauge": metric.Each.Gauge, "StateSet": metric.Each.StateSet, "Info": metric.Each.Info}
		used := values[metric.Each.Type]
		delete(values, metric.Each.Type)
		if used == nil {
			add("%s: type %q without its block", name, metric.Each.Type)
			continue
		}
		for kind, other := range values {
			if other != nil {
				add("%s: type %q with a block of %s", name, metric.Each.Type, kind)
			}
		}
		target, ok := property(schema, used.Path...)
		if !ok {
			add("%s: the definition has no path %v", name, used.Path)
			continue
		}
		// Each element of a list has its own series.
		element := target
		if items, is := target["items"].(map[string]any); is {
			element = items
		}
		for label, path := range used.LabelsFromPath {
			if _, ok := property(element, path...); !ok || !nameOfMetric.MatchString(label) {
				add("%s: label %s: the definition has no path %v", name, label, path)
			}
		}
		value, ok := property(element, used.ValueFrom...)
		if !ok {
			add("%s: the definition has no path %v", name, used.ValueFrom)
		}
		for _, err := range used.typeFaults(metric.Each.Type, value) {
			add("%s: %w", name, err)
		}
		if !found(recordings, r.GroupVersionKind.Kind, used) {
			add("%s: no recorded object has a value", name)
		}
	}
	return wrong
}

// What does not fit the type of the metric, or the field that it reads.
func (v stateValues) typeFaults(kind string, value map[string]any) []error {
	var wrong []error
	switch kind {
	case "Gauge":
		numeric := value["type"] == "integer" || value["type"] == "boolean" || value["format"] == "date-time"
		if !numeric || v.LabelName != "" || len(v.List) > 0 {
			wrong = append(wrong, fmt.Errorf("a Gauge of a field of type %v", value["type"]))
		}
	case "StateSet":
		if v.LabelName == "" || len(v.List) == 0 || v.NilIsZero || value["type"] != "string" {
			wrong = append(wrong, errors.New("a StateSet requires labelName, list and a text"))
		}
		if allowed, is := value["enum"].([]any); is {
			var texts []string
			for _, one := range allowed {
				texts = append(texts, fmt.Sprint(one))
			}
			if !slices.Equal(slices.Sorted(slices.Values(texts)), slices.Sorted(slices.Values(v.List))) {
				wrong = append(wrong, fmt.Errorf("list %v, the definition has %v", v.List, texts))
			}
		}
	case "Info":
		if len(v.LabelsFromPath) == 0 || len(v.ValueFrom) > 0 || len(v.List) > 0 {
			wrong = append(wrong, errors.New("an Info has labels, and no value"))
		}
	}
	return wrong
}

// Whether a recorded object has what the metric reads.
func found(recordings []recording, kind string, values *stateValues) bool {
	paths := [][]string{values.ValueFrom}
	for _, path := range values.LabelsFromPath {
		paths = append(paths, path)
	}
	for _, r := range recordings {
		if r.kind != kind {
			continue
		}
		elements, isList := at(r.object, values.Path...).([]any)
		if !isList {
			elements = []any{at(r.object, values.Path...)}
		}
		for _, element := range elements {
			if !slices.ContainsFunc(paths, func(path []string) bool { return at(element, path...) == nil }) {
				return true
			}
		}
	}
	return false
}

func schemaOf(root, kind string) (map[string]any, error) {
	file := filepath.Join(root, "crds", "busbar.dev_"+strings.ToLower(plural(kind))+".yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	object, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	versions, _ := at(object, "spec", "versions").([]any)
	if len(versions) != 1 {
		return nil, fmt.Errorf("%s: %d versions", file, len(versions))
	}
	schema, _ := at(versions[0], "schema", "openAPIV3Schema").(map[string]any)
	return schema, nil
}

func plural(kind string) string {
	if stem, y := strings.CutSuffix(kind, "y"); y {
		return stem + "ies"
	}
	return kind + "s"
}

// The schema of the field below a path. Every object has the fields of its metadata.
func property(schema map[string]any, path ...string) (map[string]any, bool) {
	if len(path) == 2 && path[0] == "metadata" {
		return map[string]any{"type": "string"}, path[1] == "name" || path[1] == "namespace"
	}
	for _, name := range path {
		next, ok := at(schema, "properties", name).(map[string]any)
		if !ok {
			return nil, false
		}
		schema = next
	}
	return schema, true
}
