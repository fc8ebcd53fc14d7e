package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"sigs.k8s.io/yaml"
)

// The states in which each kind is recorded, and what the tools must say of them: Argo CD's health, Flux's status.
var states = map[string]verdict{
	"unowned":     {"Progressing", "InProgress"}, // no operator has seen the object
	"behind":      {"Progressing", "InProgress"}, // changed since the operator has seen it
	"ready":       {"Healthy", "Current"},
	"progressing": {"Progressing", "InProgress"}, // waits for another object
	"rejected":    {"Progressing", "InProgress"}, // the provider rejects the credential
	"stalled":     {"Degraded", "Failed"},
	"suspended":   {"Suspended", "Current"},
	"outage":      {"Healthy", "Current"}, // the provider fails
	"stale":       {"Healthy", "Current"},
	"degraded":    {"Healthy", "Current"}, // fewer candidates than declared
	"no-bank":     {"Healthy", "Current"},
}

// The states that each kind has.
var statesOf = map[string][]string{
	"ProviderConnection": {"unowned", "behind", "ready", "progressing", "rejected", "stalled", "suspended", "outage"},
	"BreakerPolicy":      {"unowned", "behind", "ready", "stalled"},
	"SyncJob":            {"unowned", "behind", "ready", "progressing", "stalled", "suspended", "stale"},
	"BankRoute":          {"unowned", "behind", "ready", "progressing", "stalled", "suspended", "degraded", "no-bank"},
}

type verdict struct{ argo, flux string }

// An object as the API server returned it, in one of the states.
type recording struct {
	kind, state string
	object      map[string]any
}

func (r recording) String() string { return r.kind + " " + r.state }

func kinds() []string {
	all := make([]string, 0, len(statesOf))
	for kind := range statesOf {
		all = append(all, kind)
	}
	sort.Strings(all)
	return all
}

func readRecordings(folder string) ([]recording, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no recorded objects in %s (%v)", folder, err)
	}
	sort.Strings(files)
	var all []recording
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		object, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		kind := filepath.Base(filepath.Dir(file))
		if kindOf(object) != kind {
			return nil, fmt.Errorf("%s: kind %s", file, kindOf(object))
		}
		state := strings.TrimSuffix(filepath.Base(file), ".yaml")
		all = append(all, recording{kind, state, object})
		// Admission gives every object a status; a cache or a dry run may lack it.
		if state == "unowned" {
			bare := map[string]any{}
			for key, value := range object {
				if key != "status" {
					bare[key] = value
				}
			}
			all = append(all, recording{kind, "unowned", bare})
		}
	}
	return all, nil
}

// Decodes an object with whole numbers as int64, as Kubernetes' clients do.
func decode(text []byte) (map[string]any, error) {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	return numbers(object).(map[string]any), nil
}

func numbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		if whole, err := value.Int64(); err == nil {
			return whole
		}
		float, _ := value.Float64()
		return float
	case map[string]any:
		for key, item := range value {
			value[key] = numbers(item)
		}
	case []any:
		for at, item := range value {
			value[at] = numbers(item)
		}
	}
	return value
}

func kindOf(object map[string]any) string {
	kind, _ := object["kind"].(string)
	return kind
}

func checkStates(recordings []recording) error {
	found := map[string]bool{}
	for _, r := range recordings {
		if _, known := states[r.state]; !known {
			return fmt.Errorf("%s: unknown state", r)
		}
		found[r.String()] = true
	}
	var missing []string
	for _, kind := range kinds() {
		for _, state := range statesOf[kind] {
			if !found[kind+" "+state] {
				missing = append(missing, kind+" "+state)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not recorded: %s", strings.Join(missing, ", "))
	}
	return nil
}
