"""AWS's MultiLangDaemon, with a processor over amazon_kclpy, reads a stream through a split and a merge.

SHARDLOG names the binary, DYNALITE the program that holds the leases, CLASSPATH the daemon's jars. PYTHONPATH has amazon_kclpy.
"""

import collections
import glob
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import boto3
from botocore.config import Config

HERE = os.path.dirname(os.path.abspath(__file__))
REGION, STREAM, APP = "eu-west-1", "orders", "recorder"
# The daemon waits for up to 30 s before it makes the first leases, so that one of several does.
PATIENCE = 120

# Everything that the daemon does at intervals of up to a minute is done more often.
PROPERTIES = f"""
executableName = {sys.executable} {HERE}/processor.py
streamName = {STREAM}
applicationName = {APP}
AwsCredentialsProvider = DefaultCredentialsProvider
processingLanguage = python
initialPositionInStream = TRIM_HORIZON
regionName = {REGION}
kinesisEndpoint = %s
dynamoDBEndpoint = %s
metricsLevel = NONE
failoverTimeMillis = 20000
leaseAssignmentIntervalMillis = 1000
shardSyncIntervalMillis = 1000
parentShardPollIntervalMillis = 500
shutdownGraceMillis = 20000
"""


# Takes any port and prints it, and ends with its standard input, so with the test, however that ends. It closes no connection that is
# idle: on a busy machine that would meet a request.
DYNALITE = """const s = require(process.argv[1])({createTableMs: 0})
s.keepAliveTimeout = 0
s.listen(0, "127.0.0.1", () => console.log(s.address().port))
process.stdin.resume().on("end", () => process.exit())"""


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def aggregate(key, texts):
    """Returns texts as one record in KPL's format, all of one partition key."""
    body = field(1, key.encode()) + b"".join(field(3, b"\x08\x00" + field(3, t.encode())) for t in texts)
    return b"\xf3\x89\x9a\xc2" + body + hashlib.md5(body).digest()


def started(command, **more):
    return subprocess.Popen(command, start_new_session=True, **more)


def stopped(process):
    """Ends a process that was started here, and returns its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


class MultiLang(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.dir = tmp.name
        os.environ.update(AWS_ACCESS_KEY_ID="123456789012", AWS_SECRET_ACCESS_KEY="secret", AWS_REGION=REGION, SHARDLOG_SEEN=self.dir)
        serve = started([os.environ["SHARDLOG"], "serve", "-addr", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(serve.stdout.close)
        self.addCleanup(stopped, serve)
        self.url = serve.stdout.readline().split()[-1]
        package = os.path.dirname(os.path.realpath(os.environ["DYNALITE"]))
        leases = started(["node", "-e", DYNALITE, package], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(leases.stdin.close)
        self.addCleanup(leases.stdout.close)
        self.addCleanup(stopped, leases)
        self.leases = f"http://127.0.0.1:{int(leases.stdout.readline())}"
        self.make_lease_table()
        self.kinesis = boto3.client("kinesis", endpoint_url=self.url, region_name=REGION, config=Config(retries={"max_attempts": 1}))
        self.addCleanup(self.kinesis.close)
        self.put_so_far = collections.Counter()

    def make_lease_table(self):
        """Makes the table that the daemon would make: it adds the index to a table that is billed by request, which dynalite refuses."""
        dynamodb = boto3.client("dynamodb", endpoint_url=self.leases, region_name=REGION)
        self.addCleanup(dynamodb.close)
        throughput = {"ReadCapacityUnits": 10, "WriteCapacityUnits": 10}
        dynamodb.create_table(
            TableName=APP,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": a, "AttributeType": "S"} for a in ("leaseKey", "leaseOwner")],
            GlobalSecondaryIndexes=[{
                "IndexName": "LeaseOwnerToLeaseKeyIndex", "Projection": {"ProjectionType": "KEYS_ONLY"}, "ProvisionedThroughput": throughput,
                "KeySchema": [{"AttributeName": "leaseOwner", "KeyType": "HASH"}, {"AttributeName": "leaseKey", "KeyType": "RANGE"}]}],
            ProvisionedThroughput=throughput)
        dynamodb.get_waiter("table_exists").wait(TableName=APP, WaiterConfig={"Delay": 1})

    def daemon(self):
        properties = os.path.join(self.dir, "app.properties")
        with open(properties, "w", encoding="utf-8") as f:
            f.write(PROPERTIES % (self.url, self.leases))
        self.log = os.path.join(self.dir, "daemon.log")
        with open(self.log, "w", encoding="utf-8") as log:
            process = started(["java", "-cp", os.environ["CLASSPATH"], "software.amazon.kinesis.multilang.MultiLangDaemon",
                               "--properties-file", properties], stdout=log, stderr=subprocess.STDOUT)
        self.addCleanup(stopped, process)
        return process

    def put(self, prefix, n):
        """Puts n records and an aggregate of three."""
        records = [{"Data": f"{prefix}-{i}".encode(), "PartitionKey": f"k{i}"} for i in range(n)]
        inside = [f"{prefix}-inside-{i}" for i in range(3)]
        records.append({"Data": aggregate("together", inside), "PartitionKey": "together"})
        self.assertEqual(self.kinesis.put_records(StreamName=STREAM, Records=records)["FailedRecordCount"], 0)
        self.put_so_far.update([f"{prefix}-{i}" for i in range(n)] + inside)

    def seen(self, event):
        lines = []
        for name in sorted(glob.glob(os.path.join(self.dir, "*.jsonl"))):
            with open(name, encoding="utf-8") as f:
                # The last line may be half written.
                lines += [json.loads(line) for line in f if line.endswith("\n")]
        return [x for x in lines if x["event"] == event]

    def wait_for(self, what, done):
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end or self.process.poll() is not None:
                with open(self.log, encoding="utf-8") as f:
                    tail = "".join(f.readlines()[-60:])
                self.fail(f"no {what} after {PATIENCE} s, or the daemon has ended ({self.process.poll()}):\n{tail}")
            time.sleep(0.1)

    def all_seen(self):
        return len({r["data"] for r in self.seen("record")}) == len(self.put_so_far)

    def test_split_and_merge(self):
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=1)
        self.put("first", 50)
        self.process = self.daemon()
        self.wait_for("first records", self.all_seen)
        self.kinesis.split_shard(StreamName=STREAM, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
        self.put("second", 50)
        self.wait_for("records after the split", self.all_seen)
        self.kinesis.merge_shards(StreamName=STREAM, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002")
        self.put("third", 50)
        self.wait_for("records after the merge", self.all_seen)
        self.wait_for("ends of shards", lambda: len(self.seen("ended")) == 3)
        self.process.send_signal(signal.SIGTERM)
        self.assertIn(self.process.wait(timeout=60), (0, 143))

        records = self.seen("record")
        self.assertEqual(collections.Counter(r["data"] for r in records), self.put_so_far, "records that came twice or not at all")
        shards = collections.defaultdict(set)
        for r in records:
            shards[r["data"].split("-")[0]].add(r["shard"][-1])
        self.assertEqual(dict(shards), {"first": {"0"}, "second": {"1", "2"}, "third": {"3"}})
        inside = [(r["data"], r["sub"]) for r in records if "inside" in r["data"] and r["data"].startswith("first")]
        self.assertEqual(inside, [(f"first-inside-{i}", i) for i in range(3)])
        for shard in {r["shard"] for r in records}:
            order = [(int(r["number"]), r["sub"]) for r in records if r["shard"] == shard]
            self.assertEqual(order, sorted(order))
        self.assertEqual(sorted(x["shard"][-1] for x in self.seen("ended")), ["0", "1", "2"])
        # A daemon that ends gives its leases up after it has asked for a last checkpoint.
        self.assertEqual([x["shard"][-1] for x in self.seen("stopped") + self.seen("lost")], ["3", "3"])


if __name__ == "__main__":
    unittest.main()
