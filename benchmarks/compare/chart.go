package main

import (
	"os"
	"slices"

	"github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"
)

// chart draws a bar for the rate of each side of a work.
func (res *results) chart(path, title, work string) error {
	var bars []chart.Value
	for _, s := range res.sides(work) {
		v := res.each(of{work, s, "rate"})
		if v == nil {
			continue
		}
		color := drawing.ColorFromHex("9aa5b1")
		if s == us || s == usLent {
			color = drawing.ColorFromHex("1f6feb")
		}
		bars = append(bars, chart.Value{Label: s + " " + si(median(v)), Value: median(v), Style: chart.Style{FillColor: color, StrokeColor: color}})
	}
	if len(bars) == 0 {
		return nil
	}
	top := slices.MaxFunc(bars, func(a, b chart.Value) int { return int(a.Value - b.Value) }).Value
	c := chart.BarChart{
		Title: title, Width: 1100, Height: 420, BarWidth: 44, BarSpacing: 38, Bars: bars,
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 20, Right: 20, Bottom: 30}},
		XAxis:      chart.Style{FontSize: 8, TextWrap: chart.TextWrapWord},
		YAxis: chart.YAxis{
			Range:          &chart.ContinuousRange{Min: 0, Max: top * 1.05},
			ValueFormatter: func(v any) string { return si(v.(float64)) },
		},
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := c.Render(chart.SVG, f); err != nil {
		_ = f.Close() // the first error is the cause
		return err
	}
	return f.Close()
}
