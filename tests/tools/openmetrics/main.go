// Reads an OpenMetrics page from its input with the parser of Prometheus, and holds it against the
// rules of OpenMetrics 1.0.0 that the parser leaves to others. Prints what is wrong, one line each.
package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// A family of metrics, from its head to the head of the next.
type family struct {
	name, help, unit string
	kind             model.MetricType
	// The cumulative counts of a histogram's buckets, by its labels without `le`.
	buckets map[string][]bucket
	counts  map[string]float64
	sums    map[string]bool
}

type bucket struct{ bound, count float64 }

type page struct {
	families map[string]*family
	series   map[string]bool
	now      *family
	wrong    []string
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	wrong := check(text)
	for _, line := range wrong {
		fmt.Println(line)
	}
	if len(wrong) > 0 {
		os.Exit(1)
	}
}

func check(text []byte) []string {
	page := &page{families: map[string]*family{}, series: map[string]bool{}}
	parser := textparse.NewOpenMetricsParser(text, labels.NewSymbolTable())
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			page.say("the parser: %v", err)
			break
		}
		switch entry {
		case textparse.EntryHelp:
			name, help := parser.Help()
			page.head(string(name), "HELP").help = string(help)
		case textparse.EntryType:
			name, kind := parser.Type()
			page.head(string(name), "TYPE").kind = kind
		case textparse.EntryUnit:
			name, unit := parser.Unit()
			page.head(string(name), "UNIT").unit = string(unit)
		case textparse.EntrySeries:
			var of labels.Labels
			parser.Labels(&of)
			_, time, value := parser.Series()
			if time != nil {
				page.say("%s: it has a time of its own", of)
			}
			page.sample(of, value)
		default:
			page.say("neither a head nor a sample: entry %v", entry)
		}
	}
	page.end()
	if len(page.families) == 0 {
		page.say("the page holds nothing")
	}
	return page.wrong
}

func (page *page) say(format string, values ...any) {
	page.wrong = append(page.wrong, fmt.Sprintf(format, values...))
}

// The family of a line of a head. All lines of a family stand together.
func (page *page) head(name, line string) *family {
	if page.now != nil && page.now.name == name {
		return page.now
	}
	page.end()
	if page.families[name] != nil {
		page.say("%s: a second %s, apart from the first", name, line)
	}
	page.now = &family{
		name:    name,
		buckets: map[string][]bucket{},
		counts:  map[string]float64{},
		sums:    map[string]bool{},
	}
	page.families[name] = page.now
	return page.now
}

// The family ends: what only all of its lines together can show.
func (page *page) end() {
	of := page.now
	if of == nil {
		return
	}
	if of.help == "" || of.kind == "" {
		page.say("%s: HELP or TYPE is missing", of.name)
	}
	if of.unit != "" && !strings.HasSuffix(of.name, "_"+of.unit) {
		page.say("%s: it does not end with its unit, %s", of.name, of.unit)
	}
	for key, buckets := range of.buckets {
		last := bucket{math.Inf(-1), 0}
		for _, next := range buckets {
			if next.bound <= last.bound || next.count < last.count {
				page.say("%s%s: its buckets do not grow", of.name, key)
			}
			last = next
		}
		if !math.IsInf(last.bound, 1) || last.count != of.counts[key] || !of.sums[key] {
			page.say("%s%s: +Inf, count and sum do not agree", of.name, key)
		}
	}
	page.now = nil
}

func (page *page) sample(of labels.Labels, value float64) {
	name := of.Get(labels.MetricName)
	whole := of.String()
	if page.series[whole] {
		page.say("%s: twice", whole)
	}
	page.series[whole] = true
	now := page.now
	if now == nil || !strings.HasPrefix(name, now.name) {
		page.say("%s: it does not stand below the head of its family", whole)
		return
	}
	suffix := strings.TrimPrefix(name, now.name)
	switch now.kind {
	case model.MetricTypeCounter:
		if suffix != "_total" || value < 0 || math.IsNaN(value) || math.IsInf(value, 0) {
			page.say("%s: no sample of a counter", whole)
		}
	case model.MetricTypeGauge:
		if suffix != "" {
			page.say("%s: no sample of a gauge", whole)
		}
	case model.MetricTypeHistogram:
		page.histogram(now, of, suffix, value)
	default:
		page.say("%s: of an unexpected type, %s", whole, now.kind)
	}
}

func (page *page) histogram(now *family, of labels.Labels, suffix string, value float64) {
	key := labels.NewBuilder(of).Del(labels.MetricName, labels.BucketLabel).Labels().String()
	switch suffix {
	case "_bucket":
		bound, err := strconv.ParseFloat(of.Get(labels.BucketLabel), 64)
		if err != nil {
			page.say("%s: %v", of, err)
		}
		now.buckets[key] = append(now.buckets[key], bucket{bound, value})
	case "_count":
		now.counts[key] = value
	case "_sum":
		now.sums[key] = true
	default:
		page.say("%s: no sample of a histogram", of)
	}
}
