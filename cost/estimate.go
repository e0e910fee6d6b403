package cost

import (
	"fmt"
	"math"

	"github.com/shardlog/shardlog"
)

// DefaultHeadroom is the part of a shard that is left free in its worst second.
const DefaultHeadroom = 0.2

// NoHeadroom as Options.Headroom fills shards to their limits.
const NoHeadroom = -1

// Options say what is done with the load. The zero value of a field means its
// default; nil Options mean all defaults.
type Options struct {
	// Prices defaults to DefaultPrices.
	Prices *Prices
	// Headroom is the part of a shard's limits that its worst second leaves
	// free, below 1; NoHeadroom for none. Defaults to DefaultHeadroom.
	Headroom float64
	// Shards is how many there are. Defaults to as many as are needed.
	Shards int
	// Readers read everything and share the throughput of the shards; FanOut
	// consumers have a throughput of their own each (enhanced fan-out). Each defaults to none; at most 1,000.
	Readers, FanOut int
	// RetentionHours is how long records are kept, 24 to 8760. Defaults to 24.
	RetentionHours int
}

// Estimate is what a load needs and costs. Dollars are for a month.
type Estimate struct {
	// PricesDate and Region are those of the prices.
	PricesDate string `json:"pricesDate"`
	Region     string `json:"region"`
	// HoursPerMonth is what a month is counted with.
	HoursPerMonth float64 `json:"hoursPerMonth"`
	// Pattern is the load.
	Pattern Pattern `json:"pattern"`
	// Need says how many shards it takes.
	Need Need `json:"need"`
	// Plans are ways to run it, in no order of price.
	Plans []Plan `json:"plans"`
	// Notes are what to know before relying on it.
	Notes []string `json:"notes"`
}

// Risk is how likely records are refused.
type Risk string

// Risks, by how full the fullest shard is in its worst second.
const (
	RiskNone   Risk = "none"   // within the headroom
	RiskLow    Risk = "low"    // within the limit
	RiskHigh   Risk = "high"   // over the limit: records are refused then
	RiskAlways Risk = "always" // over the limit however many shards there are
)

// Need is how many shards a load takes.
type Need struct {
	// Shards is how many it takes with the headroom. AverageShards is what the
	// mean would ask for, evenly spread and without headroom: too few.
	Shards        int `json:"shards"`
	AverageShards int `json:"averageShards"`
	// Headroom is what was left free.
	Headroom float64 `json:"headroom"`
	// HotKey is the key that is fullest in its worst second, where it is known,
	// and HotKeyFill how much of one shard it takes alone, 1 being all. Above 1
	// no number of shards is enough.
	HotKey     string  `json:"hotKey,omitempty"`
	HotKeyFill float64 `json:"hotKeyFill"`
}

// Throttling is what a number of shards means for the worst second.
type Throttling struct {
	Risk Risk `json:"risk"`
	// Fill is how full the fullest shard is in its worst second, 1 being its
	// limit, with so many Records and Bytes; of each, the worst second's.
	Fill    float64 `json:"fill"`
	Records float64 `json:"records"`
	Bytes   float64 `json:"bytes"`
	// SecondsOver is in how many of the seconds measured a shard was over its
	// limit; -1 if that is not known.
	SecondsOver int `json:"secondsOver"`
	// ReadFill is how full the fullest shard is with what shared readers read
	// in the worst second, 1 being its limit.
	ReadFill float64 `json:"readFill"`
}

// Plan is one way to run the load.
type Plan struct {
	// Name says which.
	Name string `json:"name"`
	// Shards that it has; 0 in the on-demand mode, which has no such number.
	Shards int `json:"shards"`
	// Throttling is nil in the on-demand mode.
	Throttling *Throttling `json:"throttling,omitempty"`
	// Lines add up to Dollars.
	Lines   []Line  `json:"lines"`
	Dollars float64 `json:"dollars"`
}

// Line is a part of a bill.
type Line struct {
	What string `json:"what"`
	// Quantity of Unit at Price each is Dollars.
	Quantity float64 `json:"quantity"`
	Unit     string  `json:"unit"`
	Price    float64 `json:"price"`
	Dollars  float64 `json:"dollars"`
	// Doubt says what is not certain about the price, "" if nothing is.
	Doubt string `json:"doubt,omitempty"`
}

// Names of plans.
const (
	Provisioned           = "provisioned"
	ProvisionedAggregated = "provisioned, ideally aggregated"
	OnDemand              = "on-demand"
	OnDemandAggregated    = "on-demand, ideally aggregated"
)

// Make estimates. Bad options or a bad pattern are a *shardlog.InvalidError.
func Make(p Pattern, opts *Options) (*Estimate, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	e := &Estimate{PricesDate: o.Prices.Date, Region: o.Prices.Region, HoursPerMonth: o.Prices.HoursPerMonth, Pattern: p}
	e.Need = need(&p, o)
	e.Plans = append(e.Plans, provisioned(Provisioned, &p, o, e.Need.HotKeyFill))
	if !p.Aggregated {
		ideal := aggregate(p)
		_, r, b := ideal.hottest()
		e.Plans = append(e.Plans, provisioned(ProvisionedAggregated, &ideal, o, fill(r, b)))
	}
	e.Plans = append(e.Plans, onDemand(OnDemand, &p, o))
	if !p.Aggregated {
		ideal := aggregate(p)
		e.Plans = append(e.Plans, onDemand(OnDemandAggregated, &ideal, o))
	}
	e.Notes = notes(e, o)
	return e, nil
}

// withDefaults returns a checked copy.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Prices == nil {
		c.Prices = DefaultPrices()
	} else if err := c.Prices.check(); err != nil {
		return c, err
	}
	switch c.Headroom {
	case 0:
		c.Headroom = DefaultHeadroom
	case NoHeadroom:
		c.Headroom = 0
	}
	if c.RetentionHours == 0 {
		c.RetentionHours = 24
	}
	switch {
	case !(c.Headroom >= 0 && c.Headroom <= 0.95):
		return c, &shardlog.InvalidError{Field: "Headroom", Value: c.Headroom, Limit: "above 0 up to 0.95, or NoHeadroom"}
	case c.Shards < 0 || c.Shards > MaxShards:
		return c, &shardlog.InvalidError{Field: "Shards", Value: c.Shards, Limit: "0 to 100000"}
	case c.Readers < 0 || c.Readers > MaxReaders:
		return c, &shardlog.InvalidError{Field: "Readers", Value: c.Readers, Limit: "0 to 1000"}
	case c.FanOut < 0 || c.FanOut > MaxReaders:
		return c, &shardlog.InvalidError{Field: "FanOut", Value: c.FanOut, Limit: "0 to 1000"}
	case c.RetentionHours < 24 || c.RetentionHours > 8760:
		return c, &shardlog.InvalidError{Field: "RetentionHours", Value: c.RetentionHours, Limit: "24 to 8760"}
	}
	return c, nil
}

// need finds the smallest number of shards of which the fullest keeps the
// headroom in its worst second.
func need(p *Pattern, o Options) Need {
	key, r, b := p.hottest()
	n := Need{Headroom: o.Headroom, HotKey: key, HotKeyFill: fill(r, b), AverageShards: max(1, int(math.Ceil(fill(p.Records, p.Bytes))))}
	n.Shards = shardsFor(p, o)
	return n
}

// shardsFor tries numbers of shards, beginning where an even spread would do.
// If the hottest key alone is too much, more shards do not help, and the answer
// is what all other keys would need.
func shardsFor(p *Pattern, o Options) int {
	room := 1 - o.Headroom
	total := math.Max(fill(p.PeakRecords, p.PeakBytes), p.PeakBytes*float64(o.Readers)/ShardReadBytes) / room
	from := min(MaxShards, max(1, int(math.Ceil(total-1e-9))))
	_, r, b := p.hottest()
	hot := fits(r, b, o)
	if !hot {
		return from
	}
	// Keys are placed by a hash, so more shards are a new draw and not always
	// better; four times the even spread, and some, is far enough.
	to := min(MaxShards, 4*from+64)
	if p.trace == nil {
		to = MaxShards
	}
	best, least := from, math.Inf(1)
	for n := from; n <= to; n++ {
		r, b, _ := p.worst(n)
		if fits(r, b, o) {
			return n
		}
		if f := fill(r, b); f < least {
			best, least = n, f
		}
		if p.trace == nil && n > 64 {
			n += n / 64 // close enough: within 2 %
		}
	}
	return best
}

// fits reports whether a shard that gets so much keeps the headroom, for its
// writers and its readers.
func fits(records, bytes float64, o Options) bool {
	room := 1 - o.Headroom + 1e-9
	return fill(records, bytes) <= room && bytes*float64(o.Readers)/ShardReadBytes <= room
}

// aggregate is p in full aggregates: PUT payload units and kilobytes without
// anything rounded up. It is a bound that no producer reaches; records are
// whole units, and no more than before.
func aggregate(p Pattern) Pattern {
	per := math.Max(1, unitBytes*p.Records/p.Bytes) // records in an aggregate
	p.Records /= per
	p.PeakRecords /= per
	p.PutUnits, p.RoundedBytes = p.Bytes/unitBytes, p.Bytes
	if p.trace != nil {
		p.trace = p.trace.divided(per)
	}
	p.Basis += ", ideally aggregated"
	return p
}

// divided is t with as many bytes in fewer records.
func (t *Trace) divided(by float64) *Trace {
	c := *t
	c.seconds = make(map[int64]map[shardlog.HashKey]*load, len(t.seconds))
	for s, byKey := range t.seconds {
		m := make(map[shardlog.HashKey]*load, len(byKey))
		for k, l := range byKey {
			m[k] = &load{l.records / by, l.bytes}
		}
		c.seconds[s] = m
	}
	return &c
}

// bill collects lines.
type bill struct{ plan *Plan }

func (b bill) add(what string, quantity float64, p Price) {
	l := Line{What: what, Quantity: quantity, Unit: p.Unit, Price: p.usd(), Dollars: quantity * p.usd(), Doubt: p.doubt()}
	b.plan.Lines = append(b.plan.Lines, l)
	b.plan.Dollars += l.Dollars
}

func provisioned(name string, p *Pattern, o Options, hot float64) Plan {
	plan := Plan{Name: name, Shards: o.Shards}
	if plan.Shards == 0 {
		plan.Shards = shardsFor(p, o)
	}
	t := &Throttling{}
	t.Records, t.Bytes, t.SecondsOver = p.worst(plan.Shards)
	t.Fill, t.ReadFill = fill(t.Records, t.Bytes), t.Bytes*float64(o.Readers)/ShardReadBytes
	switch {
	case hot > 1+1e-9:
		t.Risk = RiskAlways
	case t.Fill > 1+1e-9:
		t.Risk = RiskHigh
	case t.Fill > 1-o.Headroom+1e-9:
		t.Risk = RiskLow
	default:
		t.Risk = RiskNone
	}
	plan.Throttling = t
	b, l, hours, shards := bill{&plan}, &o.Prices.Prices, o.Prices.HoursPerMonth, float64(plan.Shards)
	seconds := hours * 3600
	b.add("shards", shards*hours, l.ShardHour)
	b.add("PUT payload units", p.PutUnits*seconds/1e6, l.PutUnitMillion)
	if o.FanOut > 0 {
		b.add("fan-out consumers", float64(o.FanOut)*shards*hours, l.FanOutShardHour)
		b.add("fan-out data", float64(o.FanOut)*p.Bytes*seconds/gb, l.FanOutGB)
	}
	if o.RetentionHours > 24 {
		b.add("extended retention", shards*hours, l.ExtendedShardHour)
	}
	if o.RetentionHours > 7*24 {
		b.add("long-term retention", p.Bytes*float64(o.RetentionHours-7*24)*3600/gb, l.LongTermGBMonth)
	}
	return plan
}

func onDemand(name string, p *Pattern, o Options) Plan {
	plan := Plan{Name: name}
	b, l, hours := bill{&plan}, &o.Prices.Prices, o.Prices.HoursPerMonth
	seconds := hours * 3600
	b.add("stream", hours, l.OnDemandStreamHour)
	b.add("data in", p.RoundedBytes*seconds/gb, l.OnDemandInGB)
	if o.Readers > 0 {
		b.add("data out", float64(o.Readers)*p.Bytes*seconds/gb, l.OnDemandOutGB)
	}
	if o.FanOut > 0 {
		b.add("fan-out data", float64(o.FanOut)*p.Bytes*seconds/gb, l.OnDemandFanOutGB)
	}
	if o.RetentionHours > 24 {
		b.add("extended retention", p.Bytes*float64(min(o.RetentionHours, 7*24)-24)*3600/gb, l.OnDemandExtendedGBMonth)
	}
	if o.RetentionHours > 7*24 {
		b.add("long-term retention", p.Bytes*float64(o.RetentionHours-7*24)*3600/gb, l.OnDemandLongTermGBMonth)
	}
	return plan
}

// notes are what the figures do not say themselves.
func notes(e *Estimate, o Options) []string {
	n := []string{fmt.Sprintf("Prices of %s as of %s; look at AWS's page before relying on them. Taxes, data transfer and what runs the clients are not in it.", e.Region, e.PricesDate)}
	if e.Need.HotKeyFill > 1+1e-9 {
		n = append(n, fmt.Sprintf("One key alone takes %.1f times what a shard takes in its worst second: records are throttled with any number of shards, and on demand too. Spread the key, or aggregate.", e.Need.HotKeyFill))
	}
	if e.Pattern.trace == nil && e.Pattern.HotShare == 0 {
		n = append(n, "Keys are taken to be evenly spread. Records of a real log tell more.")
	}
	if e.Pattern.PeakRecords > 4000 || e.Pattern.PeakBytes > 4<<20 {
		n = append(n, "A new on-demand stream begins with 4,000 records and 4 MB a second and grows to twice the peak of the last 30 days: a first peak above that is throttled.")
	}
	if !e.Pattern.Aggregated {
		n = append(n, "Ideally aggregated is a bound: full aggregates of 25 KB, without the bytes of their form. A real producer sends what it has when its time is up.")
	}
	if o.RetentionHours > 7*24 {
		n = append(n, "Reading what is older than 7 days is billed by GB and not in it.")
	}
	seen := map[string]bool{}
	for _, p := range e.Plans {
		for _, l := range p.Lines {
			if l.Doubt != "" && !seen[l.What+l.Doubt] {
				seen[l.What+l.Doubt] = true
				n = append(n, fmt.Sprintf("The price of %s (%s, %v USD a %s) is in doubt: %s.", l.What, p.Name, l.Price, l.Unit, l.Doubt))
			}
		}
	}
	return n
}
