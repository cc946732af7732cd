package main

import (
	"fmt"
	"os"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
	"sigs.k8s.io/yaml"
)

// The health expressions of one kind, as `spec.healthCheckExprs` of a Kustomization has them.
type expressions struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	InProgress string `json:"inProgress"`
	Failed     string `json:"failed"`
	Current    string `json:"current"`
}

func readExpressions(file string) ([]expressions, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var kustomization struct {
		Spec struct {
			HealthCheckExprs []expressions `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		return nil, err
	}
	return kustomization.Spec.HealthCheckExprs, nil
}

// What Flux says, in the order that its documentation gives: a generation that was not observed,
// then inProgress, failed, current; else in progress. An expression that cannot be evaluated is an
// error there, too.
func evaluate(all []expressions, object map[string]any) judgement {
	own, err := of(all, object)
	if err != nil {
		return judgement{Status: "Error", Message: err.Error()}
	}
	if status, ok := object["status"].(map[string]any); ok {
		metadata, _ := object["metadata"].(map[string]any)
		observed, known := status["observedGeneration"].(int64)
		if generation, ok := metadata["generation"].(int64); known && ok && observed != generation {
			return judgement{Status: "InProgress"}
		}
	}
	for _, step := range []struct{ expression, status string }{
		{own.InProgress, "InProgress"},
		{own.Failed, "Failed"},
		{own.Current, "Current"},
	} {
		if step.expression == "" {
			continue
		}
		holds, err := holds(step.expression, object)
		if err != nil {
			return judgement{Status: "Error", Message: err.Error()}
		}
		if holds {
			return judgement{Status: step.status}
		}
	}
	return judgement{Status: "InProgress"}
}

func of(all []expressions, object map[string]any) (expressions, error) {
	for _, own := range all {
		if own.APIVersion == object["apiVersion"] && own.Kind == object["kind"] {
			return own, nil
		}
	}
	return expressions{}, fmt.Errorf("no expressions for %v", object["kind"])
}

// Parsed and not checked, with the fields of the object as variables, as Flux does it: it knows no
// schema.
func holds(expression string, object map[string]any) (bool, error) {
	environment, err := cel.NewEnv(
		cel.HomogeneousAggregateLiterals(),
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		ext.Strings(),
		ext.Sets(),
		ext.Encoders(),
	)
	if err != nil {
		return false, err
	}
	parsed, issues := environment.Parse(expression)
	if issues != nil && issues.Err() != nil {
		return false, issues.Err()
	}
	program, err := environment.Program(parsed)
	if err != nil {
		return false, err
	}
	value, _, err := program.Eval(object)
	if err != nil {
		return false, err
	}
	result, ok := value.(types.Bool)
	if !ok {
		return false, fmt.Errorf("not a truth value: %v", value)
	}
	return bool(result), nil
}
