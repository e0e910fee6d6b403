package cost

import (
	"bytes"
	_ "embed" // the built-in prices
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/shardlog/shardlog"
)

// Format and version of a file of prices.
const (
	PricesFormat  = "shardlog-prices"
	PricesVersion = 1
)

// maxPrices bounds a file of prices, in bytes.
const maxPrices = 1 << 20

//go:embed prices.json
var builtIn []byte

// Prices is a file of prices of one region, as of one date.
type Prices struct {
	// Format is PricesFormat and Version is PricesVersion.
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Date is when the figures were put together, as 2006-01-02.
	Date string `json:"date"`
	// Region is AWS's name of the region.
	Region string `json:"region"`
	// Currency is that of all prices; it must be "USD".
	Currency string `json:"currency"`
	// HoursPerMonth is how many hours a month is billed with, 1 to 744; AWS's
	// own calculator takes 730.
	HoursPerMonth float64 `json:"hoursPerMonth"`
	// Prices are the figures; each has to be there.
	Prices PriceList `json:"prices"`
}

// PriceList has the prices that an estimate needs.
type PriceList struct {
	// Provisioned mode: a shard for an hour, a million PUT payload units of
	// 25 KB, and enhanced fan-out by consumer, shard and hour, and by GB.
	ShardHour       Price `json:"shardHour"`
	PutUnitMillion  Price `json:"putUnitMillion"`
	FanOutShardHour Price `json:"fanOutShardHour"`
	FanOutGB        Price `json:"fanOutGB"`
	// Retention above 24 hours by shard and hour, and above 7 days by GB and
	// month.
	ExtendedShardHour Price `json:"extendedShardHour"`
	LongTermGBMonth   Price `json:"longTermGBMonth"`
	// On-demand mode: a stream for an hour, GB written with each record rounded
	// up to 1 KB, GB read, GB pushed with enhanced fan-out, and retention.
	OnDemandStreamHour      Price `json:"onDemandStreamHour"`
	OnDemandInGB            Price `json:"onDemandInGB"`
	OnDemandOutGB           Price `json:"onDemandOutGB"`
	OnDemandFanOutGB        Price `json:"onDemandFanOutGB"`
	OnDemandExtendedGBMonth Price `json:"onDemandExtendedGBMonth"`
	OnDemandLongTermGBMonth Price `json:"onDemandLongTermGBMonth"`
}

// Price is one figure and where it comes from.
type Price struct {
	// USD is dollars for one Unit, 0 to 1,000,000.
	USD *float64 `json:"usd"`
	// Unit says of what.
	Unit string `json:"unit"`
	// Sources are places that give this figure, at least one. An estimate
	// names each price with a single one.
	Sources []string `json:"sources"`
	// Note says what is unclear about the figure; "" if nothing. An estimate
	// that uses the price repeats it.
	Note string `json:"note,omitempty"`
}

// usd is the figure of a checked price.
func (p Price) usd() float64 { return *p.USD }

// doubt says why the price is not beyond doubt, "" if it is.
func (p Price) doubt() string {
	switch {
	case len(p.Sources) == 1 && p.Note != "":
		return "single source; " + p.Note
	case len(p.Sources) == 1:
		return "single source"
	}
	return p.Note
}

// named is a price with its name in the file.
type named struct {
	name  string
	price Price
}

// all returns the prices in the order of the file.
func (l *PriceList) all() []named {
	return []named{
		{"shardHour", l.ShardHour}, {"putUnitMillion", l.PutUnitMillion}, {"fanOutShardHour", l.FanOutShardHour}, {"fanOutGB", l.FanOutGB},
		{"extendedShardHour", l.ExtendedShardHour}, {"longTermGBMonth", l.LongTermGBMonth}, {"onDemandStreamHour", l.OnDemandStreamHour},
		{"onDemandInGB", l.OnDemandInGB}, {"onDemandOutGB", l.OnDemandOutGB}, {"onDemandFanOutGB", l.OnDemandFanOutGB},
		{"onDemandExtendedGBMonth", l.OnDemandExtendedGBMonth}, {"onDemandLongTermGBMonth", l.OnDemandLongTermGBMonth},
	}
}

// DefaultPrices returns the built-in prices, those of us-east-1. The caller
// may change what it gets.
func DefaultPrices() *Prices {
	p, err := DecodePrices(builtIn)
	if err != nil {
		// A test decodes the same bytes; a binary has no others.
		panic(err)
	}
	return p
}

// ReadPrices reads a file of prices, of at most 1 MiB, in the form of the
// built-in one. A file that is none is a *shardlog.InvalidError; the errors of
// r come back as they are.
func ReadPrices(r io.Reader) (*Prices, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPrices+1))
	if err != nil {
		return nil, err
	}
	return DecodePrices(b)
}

// DecodePrices is ReadPrices for bytes; it keeps none of them.
func DecodePrices(b []byte) (*Prices, error) {
	if len(b) > maxPrices {
		return nil, &shardlog.InvalidError{Field: "prices", Value: fmt.Sprintf("%d bytes or more", len(b)), Limit: "at most 1 MiB"}
	}
	var p Prices
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, &shardlog.InvalidError{Field: "prices", Value: err.Error(), Limit: "JSON in the form of the built-in file"}
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, &shardlog.InvalidError{Field: "prices", Value: "bytes behind the object", Limit: "one JSON object"}
	}
	return &p, p.check()
}

// check returns the first fault.
func (p *Prices) check() error {
	invalid := func(field string, value any, limit string) error {
		return &shardlog.InvalidError{Field: "prices: " + field, Value: value, Limit: limit}
	}
	switch {
	case p.Format != PricesFormat:
		return invalid("format", p.Format, PricesFormat)
	case p.Version != PricesVersion:
		return invalid("version", p.Version, fmt.Sprint(PricesVersion))
	case p.Region == "":
		return invalid("region", p.Region, "a region's name")
	case p.Currency != "USD":
		return invalid("currency", p.Currency, "USD")
	case !(p.HoursPerMonth >= 1 && p.HoursPerMonth <= 744):
		return invalid("hoursPerMonth", p.HoursPerMonth, "1 to 744")
	}
	if _, err := time.Parse(time.DateOnly, p.Date); err != nil {
		return invalid("date", p.Date, "a date such as 2006-01-02")
	}
	for _, n := range p.Prices.all() {
		switch {
		case n.price.USD == nil:
			return invalid(n.name+".usd", "nothing", "there")
		case math.IsNaN(n.price.usd()) || n.price.usd() < 0 || n.price.usd() > 1e6:
			return invalid(n.name+".usd", n.price.usd(), "0 to 1000000")
		case n.price.Unit == "":
			return invalid(n.name+".unit", "", "there")
		case len(n.price.Sources) == 0:
			return invalid(n.name+".sources", 0, "at least one")
		}
		for _, s := range n.price.Sources {
			if s == "" {
				return invalid(n.name+".sources", s, "places, none of them empty")
			}
		}
	}
	return nil
}
