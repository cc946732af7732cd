// Judges objects as the tools do that people wait with: kstatus (helm --wait, Flux), the health
// expressions of Flux, and the scripts of Argo CD.
//
//	health judge -argocd DIR -flux FILE    JSON list of objects in, JSON list of verdicts out
//	health act -argocd DIR ACTION          JSON object in, JSON object out as the action leaves it
//	health test -argocd DIR                runs each health_test.yaml, as Argo CD's own tests do
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What all of them say of one object.
type verdict struct {
	Kstatus judgement `json:"kstatus"`
	Flux    judgement `json:"flux"`
	Argocd  judgement `json:"argocd"`
	// What Argo CD offers, and whether its button can be pressed.
	Actions map[string]bool `json:"actions"`
}

type judgement struct {
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: health judge|act|test -argocd DIR …")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	argocd := flags.String("argocd", "", "the folder resource_customizations")
	flux := flags.String("flux", "", "a Kustomization with healthCheckExprs")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	scripts := customizations{folder: *argocd}
	switch args[0] {
	case "judge":
		return judgeAll(scripts, *flux, in, out)
	case "act":
		return act(scripts, flags.Arg(0), in, out)
	case "test":
		return testAll(scripts, out)
	}
	return fmt.Errorf("what is %q?", args[0])
}

func judgeAll(scripts customizations, flux string, in io.Reader, out io.Writer) error {
	expressions, err := readExpressions(flux)
	if err != nil {
		return err
	}
	var objects []map[string]any
	if err := read(in, &objects); err != nil {
		return err
	}
	verdicts := []verdict{}
	for _, object := range objects {
		numbers(object)
		found, err := judge(scripts, expressions, object)
		if err != nil {
			return err
		}
		verdicts = append(verdicts, found)
	}
	return json.NewEncoder(out).Encode(verdicts)
}

func judge(scripts customizations, expressions []expressions, object map[string]any) (verdict, error) {
	computed, err := status.Compute(&unstructured.Unstructured{Object: object})
	if err != nil {
		return verdict{}, err
	}
	health, err := scripts.health(object)
	if err != nil {
		return verdict{}, err
	}
	actions, err := scripts.actions(object)
	if err != nil {
		return verdict{}, err
	}
	return verdict{
		Kstatus: judgement{Status: string(computed.Status), Message: computed.Message},
		Flux:    evaluate(expressions, object),
		Argocd:  health,
		Actions: actions,
	}, nil
}

func act(scripts customizations, action string, in io.Reader, out io.Writer) error {
	var object map[string]any
	if err := read(in, &object); err != nil {
		return err
	}
	numbers(object)
	actions, err := scripts.actions(object)
	if err != nil {
		return err
	}
	if enabled, known := actions[action]; !known || !enabled {
		return fmt.Errorf("%q cannot be pressed; there are %v", action, actions)
	}
	changed, err := scripts.act(object, action)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(changed)
}

// Whole numbers stay whole, as they do in objects that a client of Kubernetes reads.
func read(in io.Reader, into any) error {
	decoder := json.NewDecoder(in)
	decoder.UseNumber()
	return decoder.Decode(into)
}

func numbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		if whole, err := value.Int64(); err == nil {
			return whole
		}
		float, _ := value.Float64()
		return float
	case []any:
		for index, item := range value {
			value[index] = numbers(item)
		}
	case map[string]any:
		for key, item := range value {
			value[key] = numbers(item)
		}
	}
	return value
}
