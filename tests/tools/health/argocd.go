package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/yaml"
)

// Scripts in the layout of Argo CD's folder resource_customizations: <group>/<Kind>/health.lua and
// <group>/<Kind>/actions/{discovery.lua,<action>/action.lua}.
type customizations struct {
	folder string
}

func (all customizations) of(object map[string]any, file ...string) (string, error) {
	version, _ := object["apiVersion"].(string)
	group, _, _ := strings.Cut(version, "/")
	kind, _ := object["kind"].(string)
	path := filepath.Join(append([]string{all.folder, group, kind}, file...)...)
	text, err := os.ReadFile(path)
	return string(text), err
}

// An object that is being deleted is Progressing before any script is asked.
func (all customizations) health(object map[string]any) (judgement, error) {
	metadata, _ := object["metadata"].(map[string]any)
	if metadata["deletionTimestamp"] != nil {
		return judgement{Status: "Progressing", Message: "Pending deletion"}, nil
	}
	script, err := all.of(object, "health.lua")
	if err != nil {
		return judgement{}, err
	}
	return runHealth(script, object)
}

func runHealth(script string, object map[string]any) (judgement, error) {
	var found judgement
	if err := runScript(script, object, &found); err != nil {
		return judgement{}, err
	}
	switch found.Status {
	case "Healthy", "Progressing", "Suspended", "Degraded", "Missing", "Unknown":
		return found, nil
	}
	return judgement{}, fmt.Errorf("no health of Argo CD: %q", found.Status)
}

// The actions that Argo CD lists, and which of them can be pressed.
func (all customizations) actions(object map[string]any) (map[string]bool, error) {
	script, err := all.of(object, "actions", "discovery.lua")
	if err != nil {
		return nil, err
	}
	var found map[string]struct {
		Disabled    bool   `json:"disabled"`
		IconClass   string `json:"iconClass"`
		DisplayName string `json:"displayName"`
	}
	if err := runScript(script, object, &found); err != nil {
		return nil, err
	}
	enabled := map[string]bool{}
	for name, action := range found {
		if _, err := all.of(object, "actions", name, "action.lua"); err != nil {
			return nil, err
		}
		enabled[name] = !action.Disabled
	}
	return enabled, nil
}

func (all customizations) act(object map[string]any, action string) (map[string]any, error) {
	script, err := all.of(object, "actions", action, "action.lua")
	if err != nil {
		return nil, err
	}
	var changed map[string]any
	if err := runScript(script, object, &changed); err != nil {
		return nil, err
	}
	changed, _ = restored(changed, object).(map[string]any)
	return changed, nil
}

// Lua has one word for an empty list and an empty map, which comes back as a list. What was a map
// before is made one again, as Argo CD does.
func restored(changed, before any) any {
	switch changed := changed.(type) {
	case map[string]any:
		if before, ok := before.(map[string]any); ok {
			for key, value := range changed {
				changed[key] = restored(value, before[key])
			}
		}
	case []any:
		if before, ok := before.(map[string]any); ok && len(changed) == 0 {
			return before
		}
		if before, ok := before.([]any); ok {
			for index := range min(len(changed), len(before)) {
				changed[index] = restored(changed[index], before[index])
			}
		}
	}
	return changed
}

// Runs a script with the object as `obj`, as Argo CD runs those that stand in its ConfigMap: a
// second, and nothing but these libraries. There is no `string`, and `os` only by `require`.
func runScript(script string, object map[string]any, into any) error {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		opened := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(opened, lua.LString(library.name)); err != nil {
			return err
		}
	}
	state.PreloadModule(lua.OsLibName, safeOs)
	limited, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limited)
	state.SetGlobal("obj", luajson.DecodeValue(state, floats(object)))
	if err := state.DoString(script); err != nil {
		return err
	}
	text, err := luajson.Encode(state.Get(-1))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// The time, and nothing else of the library.
func safeOs(state *lua.LState) int {
	if err := state.CallByParam(lua.P{
		Fn: state.NewFunction(lua.OpenOs), NRet: 1, Protect: true,
	}, lua.LString(lua.OsLibName)); err != nil {
		state.RaiseError("%v", err)
	}
	whole, _ := state.Get(-1).(*lua.LTable)
	state.Pop(1)
	state.SetGlobal(lua.OsLibName, lua.LNil)
	safe := state.NewTable()
	for _, name := range []string{"time", "date"} {
		safe.RawSetString(name, whole.RawGetString(name))
	}
	state.Push(safe)
	return 1
}

// Lua has no whole numbers.
func floats(value any) any {
	switch value := value.(type) {
	case int64:
		return float64(value)
	case []any:
		copied := make([]any, len(value))
		for index, item := range value {
			copied[index] = floats(item)
		}
		return copied
	case map[string]any:
		copied := make(map[string]any, len(value))
		for key, item := range value {
			copied[key] = floats(item)
		}
		return copied
	}
	return value
}

// One health_test.yaml, in Argo CD's form.
type healthTests struct {
	Tests []struct {
		InputPath    string    `json:"inputPath"`
		HealthStatus judgement `json:"healthStatus"`
	} `json:"tests"`
}

// Runs every health_test.yaml below the folder, prints a line for each case, and fails if one does,
// if a sample is used by none, or if there is no case at all.
func testAll(scripts customizations, out io.Writer) error {
	files, err := filepath.Glob(filepath.Join(scripts.folder, "*", "*", "health_test.yaml"))
	if err != nil {
		return err
	}
	failed, cases := 0, 0
	for _, file := range files {
		unused, err := samples(filepath.Dir(file))
		if err != nil {
			return err
		}
		var all healthTests
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := yaml.UnmarshalStrict(text, &all); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, test := range all.Tests {
			cases++
			delete(unused, test.InputPath)
			line, ok := testOne(filepath.Dir(file), test.InputPath, test.HealthStatus)
			fmt.Fprintln(out, line)
			if !ok {
				failed++
			}
		}
		for sample := range unused {
			failed++
			fmt.Fprintf(out, "UNUSED %s/%s\n", filepath.Base(filepath.Dir(file)), sample)
		}
	}
	if failed > 0 || cases == 0 {
		return fmt.Errorf("%d of %d cases failed", failed, cases)
	}
	return nil
}

func samples(folder string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(folder, "testdata", "*.yaml"))
	found := map[string]bool{}
	for _, file := range files {
		found["testdata/"+filepath.Base(file)] = true
	}
	return found, err
}

func testOne(folder, sample string, wanted judgement) (string, bool) {
	name := filepath.Base(folder) + "/" + sample
	found, err := func() (judgement, error) {
		script, err := os.ReadFile(filepath.Join(folder, "health.lua"))
		if err != nil {
			return judgement{}, err
		}
		text, err := os.ReadFile(filepath.Join(folder, sample))
		if err != nil {
			return judgement{}, err
		}
		var object map[string]any
		if err := yaml.Unmarshal(text, &object); err != nil {
			return judgement{}, err
		}
		return runHealth(string(script), object)
	}()
	if err != nil {
		return fmt.Sprintf("FAILED %s: %v", name, err), false
	}
	if found != wanted {
		return fmt.Sprintf("FAILED %s: %+v, and not %+v", name, found, wanted), false
	}
	return fmt.Sprintf("ok %s: %s", name, found.Status), true
}
