package patterns

import "time"

// ReportFormat and ReportVersion are the values of the fields of a Report.
// Fields may be added within a version; none changes its meaning.
const (
	ReportFormat  = "shardlog-bench"
	ReportVersion = 1
)

// Report is the JSON form of what "shardlog bench" has measured. It is stable
// within a Version, so that other programs may read it: "shardlog cost" uses
// Result.Stored, Shards and Sizes.
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
	// Host is the machine that ran the load.
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
	// CPUs is the number of processors that the program could use, CPU their
	// name, "" where the system does not report it.
	CPUs int    `json:"cpus"`
	CPU  string `json:"cpu,omitempty"`
	// Revision is the commit that the program was built from, with "+dirty" if
	// files were changed; "" if it is unknown.
	Revision string `json:"revision,omitempty"`
}

// Result is the outcome of one run of a workload. Everything refers to the
// measured time, without the warm-up, except the fields of Check. Counts are of
// records that were acknowledged, or delivered, in that time; Ack and Delivery
// are of records that were put in it, whenever they were acknowledged or
// delivered.
type Result struct {
	// Workload is the workload with its defaults filled in.
	Workload Workload `json:"workload"`
	// Target is the name of the Target.
	Target string `json:"target"`
	// Started is when the measured time began; Seconds, how long it was.
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`

	// Records is the number of acknowledged records of the workload: each
	// record in an aggregate counts. Bytes is the size of their data and keys.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// RecordsPerSecond and BytesPerSecond are the means.
	RecordsPerSecond float64 `json:"recordsPerSecond"`
	BytesPerSecond   float64 `json:"bytesPerSecond"`
	// Offered is the rate at which records were due; 0 in a closed loop.
	Offered float64 `json:"offered,omitempty"`
	// Backlog is the number of due records that had not been put at the end,
	// because the log did not keep up. Their latency is in none of the
	// figures, which are therefore too good if Backlog is not 0.
	Backlog int64 `json:"backlog"`
	// MalformedLines is the number of lines of Workload.Lines that were left out
	// because they have no key.
	MalformedLines int64 `json:"malformedLines,omitempty"`
	// Failed is the number of records whose error was not retryable, or that
	// were not stored in time.
	Failed int64 `json:"failed"`
	// Throttled is the number of refusals of stored records because of a rate
	// limit, and ReadsThrottled that of reads.
	Throttled      int64 `json:"throttled"`
	ReadsThrottled int64 `json:"readsThrottled"`
	// Calls is the number of calls of the target to put records.
	Calls int64 `json:"calls"`

	// Ack is the time from the put, or in an open loop from when the put was
	// due, to the acknowledgement. Delivery is the time to the delivery to a
	// consumer, over all consumers; its Count is 0 without consumers.
	Ack      Latency `json:"ack"`
	Delivery Latency `json:"delivery"`
	// Delivered is the number of deliveries to all consumers;
	// DeliveredPerSecond is the mean rate of one consumer.
	Delivered          int64   `json:"delivered"`
	DeliveredPerSecond float64 `json:"deliveredPerSecond"`

	// Sizes is a histogram of the sizes of the data, by powers of two; its
	// buckets are in order and none is empty.
	Sizes []SizeBucket `json:"sizes"`
	// Stored is what the log stored for the records, in the units that AWS
	// bills: an aggregate is one stored record.
	Stored Stored `json:"stored"`
	// Shards has an entry for each shard, in the order of their IDs, also for
	// those without records.
	Shards []ShardLoad `json:"shards"`
	// Keys are the partition keys with the most records, at most 20, in
	// descending order. DistinctKeys is the number of different keys.
	Keys         []KeyLoad `json:"keys"`
	DistinctKeys int       `json:"distinctKeys"`
	// PerSecond has an entry for each second of the measured time; the last
	// may be shorter.
	PerSecond []Second `json:"perSecond"`

	// Disk is what was written; nil if the target does not report it.
	Disk *Disk `json:"disk,omitempty"`
	// Process is what the program used, for the log and the load together.
	Process Process `json:"process"`
	// Check says whether every record was delivered, once and in order.
	Check Check `json:"check"`
}

// Latency summarizes times, in nanoseconds. Values are exact to 0.1 %.
type Latency struct {
	// Count is the number of times.
	Count int64 `json:"count"`
	// The mean, percentiles and the maximum; 0 if Count is 0.
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

// Stored summarizes stored records, of which an aggregate is one.
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
	// WorstSecondRecords and WorstSecondBytes are the largest values of a
	// second, over all shards together.
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
	// Throttled is the number of refusals of records because of the shard's
	// rate limit; 0 if the target does not name the shard in its errors.
	Throttled int64 `json:"throttled"`
	// MeanRecords and MeanBytes are means over the seconds; WorstSecondRecords
	// and WorstSecondBytes are the largest values of a second.
	MeanRecords        float64 `json:"meanRecords"`
	MeanBytes          float64 `json:"meanBytes"`
	WorstSecondRecords int64   `json:"worstSecondRecords"`
	WorstSecondBytes   int64   `json:"worstSecondBytes"`
}

// KeyLoad is the number of records with one partition key.
type KeyLoad struct {
	Key     string `json:"key"`
	Records int64  `json:"records"`
	// Share is of all records.
	Share float64 `json:"share"`
}

// Second is what happened in one second of the measured time.
type Second struct {
	// Second is its index, from 0 on.
	Second int `json:"second"`
	// Records is the number of records that were acknowledged in it, Bytes the
	// size of their data and keys.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// Delivered is the number of deliveries to all consumers, Throttled that
	// of refusals.
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
	// Bytes is the size of its files at the end, Live the part that is in use.
	Bytes int64 `json:"bytes"`
	Live  int64 `json:"live"`
	// Written is the number of bytes that the process had the system write, in
	// whole pages; Amplification is Written divided by Result.Bytes. Both are
	// 0 where the system does not report it; Linux does.
	Written       int64   `json:"written"`
	Amplification float64 `json:"amplification"`
	// Syncs is the number of syncs to the disk.
	Syncs int64 `json:"syncs"`
}

// Process is what the program used.
type Process struct {
	// CPUSeconds is the time of all processors, and CPUPerRecord that for each
	// acknowledged record, in nanoseconds; 0 where the system does not report
	// it.
	CPUSeconds   float64 `json:"cpuSeconds"`
	CPUPerRecord float64 `json:"cpuPerRecord"`
	// AllocsPerRecord and AllocBytesPerRecord are what was allocated.
	AllocsPerRecord     float64 `json:"allocsPerRecord"`
	AllocBytesPerRecord float64 `json:"allocBytesPerRecord"`
	// LoadCPUPerRecord is the part of CPUPerRecord that making the records
	// takes, in nanoseconds, as measured alone before the run.
	LoadCPUPerRecord float64 `json:"loadCPUPerRecord"`
	// MaxHeap is the largest heap in use, in bytes, sampled once a second.
	MaxHeap int64 `json:"maxHeap"`
}

// Check is about all records of a run, including those of the warm-up.
type Check struct {
	// Acked records were acknowledged.
	Acked int64 `json:"acked"`
	// Delivered is the number of different acknowledged records that every
	// consumer received: that of the consumer with the fewest. It equals Acked
	// if nothing is missing, and is 0 without consumers.
	Delivered int64 `json:"delivered"`
	// Missing were acknowledged and not delivered within Workload.Drain, of
	// all consumers together.
	Missing int64 `json:"missing"`
	// Duplicates were delivered more than once to a consumer.
	Duplicates int64 `json:"duplicates"`
	// Misordered were delivered after a later record of the same producer and
	// key.
	Misordered int64 `json:"misordered"`
	// Foreign records were delivered but do not belong to this run.
	Foreign int64 `json:"foreign"`
}
