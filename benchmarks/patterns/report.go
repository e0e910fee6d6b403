package patterns

import "time"

// ReportFormat and ReportVersion are the values of the fields of a Report.
// Fields may be added within a version; none changes its meaning.
const (
	ReportFormat  = "shardlog-bench"
	ReportVersion = 1
)

// Report is the JSON form of what "shardlog bench" has measured. It is stable
// within a Version: other programs may read it, such as an estimate of costs,
// for which Result.Stored, Shards and Sizes are made.
//
//	{
//	  "format": "shardlog-bench", "version": 1,
//	  "host": {"go": "go1.26", "os": "linux", "arch": "amd64", "cpus": 2, ...},
//	  "results": [{
//	    "workload": {"name": "clickstream", "shards": 4, ...},
//	    "target": "stream", "started": "2026-01-02T15:04:05Z", "seconds": 9.0,
//	    "records": 45000, "bytes": 22500000, "recordsPerSecond": 5000, ...
//	    "ack": {"count": 45000, "p50": 150000, ..., "buckets": [...]},
//	    "sizes": [{"upTo": 512, "records": 40000, "bytes": 16000000}, ...],
//	    "stored": {"records": 45000, "bytes": ..., "putUnits": 45000, ...},
//	    "shards": [{"id": "shardId-000000000000", "records": 11200,
//	                "worstSecondRecords": 1400, "worstSecondBytes": 700000, ...}],
//	    "keys": [{"key": "key-0000017", "records": 900, "share": 0.02}],
//	    "perSecond": [{"second": 0, "records": 5000, ...}]
//	  }]
//	}
//
// All times are in nanoseconds unless the name says seconds; all sizes in
// bytes. Rates are of the measured time, Result.Seconds.
type Report struct {
	// Format is ReportFormat and Version is ReportVersion.
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Host is where the load was made.
	Host Host `json:"host"`
	// Results has one entry for each run, in their order; those with the same
	// Workload.Name are repetitions of each other.
	Results []Result `json:"results"`
}

// Host describes a machine and the program that ran there.
type Host struct {
	// Go is the version of Go, OS and Arch are as in package runtime.
	Go   string `json:"go"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// CPUs is how many the program could use, CPU the name of their kind, ""
	// if the system does not tell.
	CPUs int    `json:"cpus"`
	CPU  string `json:"cpu,omitempty"`
	// Revision is the commit that the program was built from, with "+dirty" if
	// files were changed; "" if it is not known.
	Revision string `json:"revision,omitempty"`
}

// Result is what one run of a workload was like. Everything is about the
// measured time, without the warm-up, except the fields of Check. Counts are of
// what was acknowledged, or delivered, in that time; Ack and Delivery are of
// what was put in it, whenever that was acknowledged or delivered.
type Result struct {
	// Workload is what was run, with its defaults filled in.
	Workload Workload `json:"workload"`
	// Target is the name of the Target.
	Target string `json:"target"`
	// Started is when the measured time began; Seconds, how long it was.
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`

	// Records were acknowledged, as the workload has them: those in an
	// aggregate count each. Bytes are their data and keys.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// RecordsPerSecond and BytesPerSecond are the means.
	RecordsPerSecond float64 `json:"recordsPerSecond"`
	BytesPerSecond   float64 `json:"bytesPerSecond"`
	// Offered is the rate at which records were to come; 0 in a closed loop.
	Offered float64 `json:"offered,omitempty"`
	// Backlog is how many of them were not put when the time was over, because
	// the log did not keep up. Their latency is in none of the figures, so
	// these are too good if it is not 0.
	Backlog int64 `json:"backlog"`
	// Failed records got an error that is not worth a further try.
	Failed int64 `json:"failed"`
	// Throttled is how often a stored record was refused because of a rate
	// limit, and ReadsThrottled how often a read was.
	Throttled      int64 `json:"throttled"`
	ReadsThrottled int64 `json:"readsThrottled"`
	// Calls is how often the target was called to put records.
	Calls int64 `json:"calls"`

	// Ack is the time from the put, or from when the put was to be, to the
	// acknowledgement; Delivery, to the record's being in a consumer's hands,
	// of all consumers together. Delivery.Count is 0 without consumers.
	Ack      Latency `json:"ack"`
	Delivery Latency `json:"delivery"`
	// Delivered is how many records consumers got, of all consumers together;
	// DeliveredPerSecond is of one.
	Delivered          int64   `json:"delivered"`
	DeliveredPerSecond float64 `json:"deliveredPerSecond"`

	// Sizes is a histogram of the sizes of the data, by powers of two; its
	// buckets are in order and none is empty.
	Sizes []SizeBucket `json:"sizes"`
	// Stored is what the log has stored for the records, which is what a cloud
	// bills: an aggregate is one stored record.
	Stored Stored `json:"stored"`
	// Shards has an entry for each shard, in the order of their IDs, also for
	// those without records.
	Shards []ShardLoad `json:"shards"`
	// Keys are the partition keys with most records, at most 20, the first has
	// most. DistinctKeys is how many there were.
	Keys         []KeyLoad `json:"keys"`
	DistinctKeys int       `json:"distinctKeys"`
	// PerSecond has an entry for each second of the measured time; the last
	// may be shorter.
	PerSecond []Second `json:"perSecond"`

	// Disk is what was written; nil if the target does not tell.
	Disk *Disk `json:"disk,omitempty"`
	// Process is what the program needed, the log and the load together.
	Process Process `json:"process"`
	// Check is whether everything came, once and in order.
	Check Check `json:"check"`
}

// Latency sums up times, in nanoseconds. Values are exact to 0.1 %.
type Latency struct {
	// Count is how many there are.
	Count int64 `json:"count"`
	// Mean, percentiles and largest; 0 if Count is.
	Mean float64 `json:"mean"`
	P50  int64   `json:"p50"`
	P90  int64   `json:"p90"`
	P99  int64   `json:"p99"`
	P999 int64   `json:"p999"`
	Max  int64   `json:"max"`
	// Buckets is a histogram: eight to a doubling, in order, none empty.
	Buckets []LatencyBucket `json:"buckets,omitempty"`
}

// LatencyBucket counts times from From up to, not including, To.
type LatencyBucket struct {
	From  int64 `json:"from"`
	To    int64 `json:"to"`
	Count int64 `json:"count"`
}

// SizeBucket counts records whose data are no larger than UpTo, and larger
// than half of it.
type SizeBucket struct {
	// UpTo is a power of two.
	UpTo int64 `json:"upTo"`
	// Records is how many there are; Bytes, their data together.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

// Stored sums up stored records, of which an aggregate is one.
type Stored struct {
	// Records is how many there are; Bytes, their data and keys.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// PutUnits is what AWS bills a provisioned stream for: 25 KiB of data and
	// key, rounded up for each record (Kinesis pricing, PUT payload unit).
	PutUnits int64 `json:"putUnits"`
	// RoundedBytes is what AWS bills an on-demand stream for: data and key
	// rounded up to 1 KiB for each record (Kinesis pricing, on-demand).
	RoundedBytes int64 `json:"roundedBytes"`
	// RecordsPerSecond, BytesPerSecond and PutUnitsPerSecond are the means.
	RecordsPerSecond  float64 `json:"recordsPerSecond"`
	BytesPerSecond    float64 `json:"bytesPerSecond"`
	PutUnitsPerSecond float64 `json:"putUnitsPerSecond"`
	// WorstSecondRecords and WorstSecondBytes are of the second with most of
	// all shards together.
	WorstSecondRecords int64 `json:"worstSecondRecords"`
	WorstSecondBytes   int64 `json:"worstSecondBytes"`
}

// ShardLoad is what was stored on one shard, in stored records.
type ShardLoad struct {
	ID string `json:"id"`
	// Records and Bytes, data and keys, were stored; Share is this shard's of
	// the records.
	Records int64   `json:"records"`
	Bytes   int64   `json:"bytes"`
	Share   float64 `json:"share"`
	// Throttled is how often records for this shard were refused because of
	// its rate limit; 0 if the target does not tell the shard.
	Throttled int64 `json:"throttled"`
	// MeanRecords and MeanBytes are a second's; WorstSecondRecords and
	// WorstSecondBytes are those of the second with most.
	MeanRecords        float64 `json:"meanRecords"`
	MeanBytes          float64 `json:"meanBytes"`
	WorstSecondRecords int64   `json:"worstSecondRecords"`
	WorstSecondBytes   int64   `json:"worstSecondBytes"`
}

// KeyLoad is how many records had a partition key.
type KeyLoad struct {
	Key     string `json:"key"`
	Records int64  `json:"records"`
	// Share is of all records.
	Share float64 `json:"share"`
}

// Second is what happened in one second of the measured time.
type Second struct {
	// Second is how many were before it.
	Second int `json:"second"`
	// Records were acknowledged in it, Bytes are their data and keys.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// Delivered to consumers, all together; Throttled are refusals.
	Delivered int64 `json:"delivered"`
	Throttled int64 `json:"throttled"`
	// Latencies of what was acknowledged and delivered in it, in nanoseconds,
	// exact to 1 %.
	AckP50      int64 `json:"ackP50"`
	AckP99      int64 `json:"ackP99"`
	AckMax      int64 `json:"ackMax"`
	DeliveryP50 int64 `json:"deliveryP50"`
	DeliveryP99 int64 `json:"deliveryP99"`
	DeliveryMax int64 `json:"deliveryMax"`
	// StoredRecords and StoredBytes are by shard, in the order of
	// Result.Shards.
	StoredRecords []int64 `json:"storedRecords"`
	StoredBytes   []int64 `json:"storedBytes"`
}

// Disk is what a log on a disk has written.
type Disk struct {
	// Bytes is what its files take at the end, Live what of it is in use.
	Bytes int64 `json:"bytes"`
	Live  int64 `json:"live"`
	// Written is what the process gave the system to write, in whole pages;
	// Amplification is Written divided by Result.Bytes. Both are 0 where the
	// system does not tell; Linux does.
	Written       int64   `json:"written"`
	Amplification float64 `json:"amplification"`
	// Syncs is how often the disk was waited for.
	Syncs int64 `json:"syncs"`
}

// Process is what the program needed.
type Process struct {
	// CPUSeconds is the time of all processors, and CPUPerRecord that for each
	// acknowledged record, in nanoseconds; 0 where the system does not tell.
	CPUSeconds   float64 `json:"cpuSeconds"`
	CPUPerRecord float64 `json:"cpuPerRecord"`
	// AllocsPerRecord and AllocBytesPerRecord are what was allocated.
	AllocsPerRecord     float64 `json:"allocsPerRecord"`
	AllocBytesPerRecord float64 `json:"allocBytesPerRecord"`
	// LoadCPUPerRecord is the part of CPUPerRecord that making the records
	// takes, in nanoseconds, as measured alone before the run.
	LoadCPUPerRecord float64 `json:"loadCPUPerRecord"`
	// MaxHeap is the most memory in use by Go as seen once a second, in bytes.
	MaxHeap int64 `json:"maxHeap"`
}

// Check is about all records of a run, those of the warm-up too.
type Check struct {
	// Acked records were acknowledged.
	Acked int64 `json:"acked"`
	// Delivered is how many different ones of them each consumer got at least;
	// it is Acked if nothing is missing, and 0 without consumers.
	Delivered int64 `json:"delivered"`
	// Missing were acknowledged and not delivered within Workload.Drain, of
	// all consumers together.
	Missing int64 `json:"missing"`
	// Duplicates were delivered more than once to a consumer.
	Duplicates int64 `json:"duplicates"`
	// Misordered were delivered after a later record of the same producer and
	// key.
	Misordered int64 `json:"misordered"`
	// Foreign were delivered and are not of this run.
	Foreign int64 `json:"foreign"`
}
