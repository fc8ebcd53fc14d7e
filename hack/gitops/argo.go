package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

const argoKeyPrefix = "resource.customizations.health.busbar.dev_"

type argoResult struct{ Status, Message string }

// The script of each kind in the ConfigMap.
func argoScripts(root string) (map[string]string, error) {
	folder := filepath.Join(root, "config/gitops/argocd")
	text, err := os.ReadFile(filepath.Join(folder, "argocd-cm.yaml"))
	if err != nil {
		return nil, err
	}
	config, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("argocd-cm.yaml: %w", err)
	}
	script, err := os.ReadFile(filepath.Join(folder, "health.lua"))
	if err != nil {
		return nil, err
	}
	data, _ := config["data"].(map[string]any)
	scripts := map[string]string{}
	for key, value := range data {
		kind, ours := strings.CutPrefix(key, argoKeyPrefix)
		if _, known := statesOf[kind]; !ours || !known {
			return nil, fmt.Errorf("argocd-cm.yaml: unknown key %s", key)
		}
		scripts[kind], _ = value.(string)
		if scripts[kind] != string(script) {
			return nil, fmt.Errorf("argocd-cm.yaml: %s differs from health.lua", key)
		}
	}
	for _, kind := range kinds() {
		if scripts[kind] == "" {
			return nil, fmt.Errorf("argocd-cm.yaml: no script for %s", kind)
		}
	}
	return scripts, nil
}

// Runs a health script as Argo CD does: a second of time, and no library but the basic functions and tables.
func argoHealth(script string, object map[string]any) (argoResult, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		call := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return argoResult{}, err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", luaValue(state, object))
	if err := state.DoString(script); err != nil {
		return argoResult{}, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return argoResult{}, errors.New("the script returned no table")
	}
	result := argoResult{table.RawGetString("status").String(), table.RawGetString("message").String()}
	switch result.Status {
	case "Healthy", "Progressing", "Degraded", "Suspended":
	default:
		return argoResult{}, fmt.Errorf("the script returned the status %q", result.Status)
	}
	if table.RawGetString("message").Type() != lua.LTString || result.Message == "" {
		return argoResult{}, errors.New("the script returned no message")
	}
	return result, nil
}

func luaValue(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := state.NewTable()
		for _, item := range value {
			table.Append(luaValue(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range value {
			table.RawSetString(key, luaValue(state, item))
		}
		return table
	}
	return lua.LNil
}

func checkArgo(root string, recordings []recording) error {
	scripts, err := argoScripts(root)
	if err != nil {
		return err
	}
	return argoDifferences(scripts, recordings)
}

func argoDifferences(scripts map[string]string, recordings []recording) error {
	var wrong []error
	for _, r := range recordings {
		result, err := argoHealth(scripts[r.kind], r.object)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", r, err))
			continue
		}
		if result.Status != states[r.state].argo {
			wrong = append(wrong, fmt.Errorf("%s: %s (%s), expected %s", r, result.Status, result.Message, states[r.state].argo))
		}
		if named := namedReason(r); named != "" && !strings.Contains(result.Message, named) {
			wrong = append(wrong, fmt.Errorf("%s: the message %q does not name %s", r, result.Message, named))
		}
	}
	return errors.Join(wrong...)
}

// The reason that the message of a recorded state must name.
func namedReason(r recording) string {
	condition := map[string]string{
		"outage": "CircuitOpen", "stale": "Fresh", "degraded": "Degraded", "no-bank": "Available", "stalled": "Stalled",
		"progressing": "Ready", "rejected": "Ready", "suspended": "Suspended", "ready": "Ready",
	}[r.state]
	conditions, _ := at(r.object, "status", "conditions").([]any)
	for _, c := range conditions {
		if at(c, "type") == condition {
			reason, _ := at(c, "reason").(string)
			return reason
		}
	}
	return ""
}

// The value below these keys, or nil.
func at(value any, keys ...string) any {
	for _, key := range keys {
		object, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = object[key]
	}
	return value
}

// Scripts with a fault, each of which the recorded objects must reveal.
func checkArgoChanges(root string, recordings []recording) error {
	scripts, err := argoScripts(root)
	if err != nil {
		return err
	}
	for _, change := range [][2]string{
		{"status.observedGeneration ~= obj.metadata.generation", "false"},
		{"status == nil or ", ""},
		{`is("Stalled", "True")`, "false"},
		{`is("Suspended", "True")`, "false"},
		{`not is("Ready", "True")`, "false"},
		{`return health("Healthy", text(bad[1]))`, `return health("Degraded", text(bad[1]))`},
		{`{ "CircuitOpen", "True" },`, ""},
		{`{ "Available", "False" },`, ""},
		{`{ "Fresh", "False" },`, ""},
		{`{ "Degraded", "True" },`, ""},
	} {
		changed := map[string]string{}
		for kind, script := range scripts {
			changed[kind] = strings.Replace(script, change[0], change[1], 1)
			if changed[kind] == script {
				return fmt.Errorf("the script has no %q to change", change[0])
			}
		}
		if argoDifferences(changed, recordings) == nil {
			return fmt.Errorf("no recorded object reveals %q in place of %q", change[1], change[0])
		}
	}
	return nil
}
