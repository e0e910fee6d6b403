"""The AWS CLI's tutorials, with the commands as they are published: that of the Kinesis developer guide, and the example that awscli
ships for each command. SHARDLOG names the binary."""

import base64
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import unittest
import urllib.request

import awscli
import awscli.clidriver

ACCOUNT, REGION = "123456789012", "us-west-2"
KEY = f"arn:aws:kms:{REGION}:012345678912:key/a3c4a7cd-728b-45dd-b334-4d3eb496e452"
METRICS = {"IncomingBytes", "OutgoingRecords", "IteratorAgeMilliseconds", "IncomingRecords", "ReadProvisionedThroughputExceeded",
           "WriteProvisionedThroughputExceeded", "OutgoingBytes"}


class Tutorials(unittest.TestCase):
    def setUp(self):
        # Nothing comes out of a state until a test moves the clock, so it sees the state on the way.
        self.serve = subprocess.Popen([os.environ["SHARDLOG"], "serve", "-addr", "127.0.0.1:0", "-create-time", "60s", "-delete-time", "60s",
                                       "-update-time", "60s"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.stop)
        self.url = self.serve.stdout.readline().split()[-1]
        os.environ.update(AWS_ENDPOINT_URL=self.url, AWS_ACCESS_KEY_ID=ACCOUNT, AWS_SECRET_ACCESS_KEY="secret", AWS_DEFAULT_REGION=REGION,
                          AWS_DEFAULT_OUTPUT="json", AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
        self.ran = set()
        self.offset = 0

    def stop(self):
        self.serve.terminate()
        try:
            self.assertEqual(self.serve.wait(timeout=20), 0)
        finally:
            self.serve.kill()
            self.serve.stdout.close()

    def minute_passes(self):
        self.offset += 61
        body = json.dumps({"offset": f"{self.offset}s"}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/_shardlog/clock", data=body, method="PUT")).close()

    def run_aws(self, line):
        """Runs the CLI in this process, which is quicker, and returns its exit code and what it printed to both outputs."""
        args = shlex.split(line)
        self.assertEqual(args[0], "aws")
        self.ran.add(args[2])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = awscli.clidriver.create_clidriver().main(args[1:])
        return code, out.getvalue(), err.getvalue()

    def aws(self, line):
        """Runs a command, and returns what it printed: JSON, text with --output text, or nothing."""
        code, out, err = self.run_aws(line)
        self.assertEqual(code, 0, f"{line}\n{err}")
        if "--output text" in line:
            return out.strip()
        return json.loads(out) if out.strip() else None

    def silent(self, line):
        self.assertIsNone(self.aws(line), line)

    def refused(self, line, code):
        exit_code, _, err = self.run_aws(line)
        self.assertEqual(exit_code, 255)
        self.assertIn(f"An error occurred ({code}) when calling", err, line)

    def summary(self, name):
        return self.aws(f"aws kinesis describe-stream-summary --stream-name {name}")["StreamDescriptionSummary"]

    def becomes_active(self, name, first):
        """Sees the state on the way, then ACTIVE, and returns the stream as it is then."""
        self.assertEqual(self.summary(name)["StreamStatus"], first)
        self.minute_passes()
        self.silent(f"aws kinesis wait stream-exists --stream-name {name}")
        return self.summary(name)

    def test_developer_guide(self):
        self.silent("aws kinesis create-stream --stream-name Foo")
        s = self.becomes_active("Foo", "CREATING")
        for field, want in {"StreamName": "Foo", "StreamARN": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/Foo", "RetentionPeriodHours": 24,
                            "EncryptionType": "NONE", "OpenShardCount": 4, "ConsumerCount": 0, "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
                            "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}.items():
            self.assertEqual(s[field], want, field)
        self.assertEqual(self.aws("aws kinesis list-streams")["StreamNames"], ["Foo"])
        put = self.aws("aws kinesis put-record --stream-name Foo --partition-key 123 --data testdata")
        self.assertEqual(put["ShardId"], "shardId-000000000000")
        self.assertRegex(put["SequenceNumber"], r"^\d{56}$")
        it = self.aws("aws kinesis get-shard-iterator --shard-id shardId-000000000000 --shard-iterator-type TRIM_HORIZON --stream-name Foo "
                      "--query ShardIterator --output text")
        got = self.aws(f"aws kinesis get-records --shard-iterator {it}")
        record, = got["Records"]
        self.assertEqual((record["Data"], base64.b64decode(record["Data"])), ("dGVzdGRhdGE=", b"testdata"))
        self.assertEqual((record["PartitionKey"], record["SequenceNumber"]), ("123", put["SequenceNumber"]))
        self.assertIn("ApproximateArrivalTimestamp", record)
        self.assertEqual(got["MillisBehindLatest"], 0)
        # An iterator may be used again while it has not expired; the next one is behind the record.
        self.assertEqual(self.aws(f"aws kinesis get-records --shard-iterator {it}")["Records"], got["Records"])
        self.assertEqual(self.aws(f"aws kinesis get-records --shard-iterator {got['NextShardIterator']}")["Records"], [])
        self.silent("aws kinesis delete-stream --stream-name Foo")
        self.assertEqual(self.summary("Foo")["StreamStatus"], "DELETING")
        self.minute_passes()
        self.silent("aws kinesis wait stream-not-exists --stream-name Foo")
        self.refused("aws kinesis describe-stream-summary --stream-name Foo", "ResourceNotFoundException")
        self.assertEqual(self.aws("aws kinesis list-streams")["StreamNames"], [])

    def test_caller(self):
        self.assertEqual(self.aws("aws sts get-caller-identity"),
                         {"UserId": ACCOUNT, "Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:root"})
        self.assertEqual(self.aws("aws sts get-caller-identity --query Account --output text"), ACCOUNT)

    def test_examples_of_each_command(self):
        self.silent("aws kinesis create-stream --stream-name samplestream --shard-count 3")
        self.becomes_active("samplestream", "CREATING")
        self.shards()
        self.records()
        self.tags()
        self.settings()
        self.consumers()
        self.resharding()
        self.silent("aws kinesis delete-stream --stream-name samplestream")
        with_example = os.listdir(os.path.join(os.path.dirname(awscli.__file__), "examples", "kinesis"))
        self.assertEqual({name.removesuffix(".rst") for name in with_example} - self.ran, set(), "examples that were not run")

    def shards(self):
        shards = self.aws("aws kinesis describe-stream --stream-name samplestream")["StreamDescription"]["Shards"]
        # The ranges that the example shows for a stream of three shards.
        self.assertEqual([(s["HashKeyRange"]["StartingHashKey"], s["HashKeyRange"]["EndingHashKey"]) for s in shards], [
            ("0", "113427455640312821154458202477256070484"),
            ("113427455640312821154458202477256070485", "226854911280625642308916404954512140969"),
            ("226854911280625642308916404954512140970", "340282366920938463463374607431768211455")])
        listed = self.aws("aws kinesis list-shards --stream-name samplestream --exclusive-start-shard-id shardId-000000000000")["Shards"]
        self.assertEqual(listed, shards[1:])
        self.assertEqual(self.aws("aws kinesis list-streams")["StreamNames"], ["samplestream"])
        limits = self.aws("aws kinesis describe-limits")
        self.assertEqual(limits["OpenShardCount"], 3)
        self.assertGreater(limits["ShardLimit"], 3)

    def records(self):
        self.assertIn("SequenceNumber", self.aws(
            "aws kinesis put-record --stream-name samplestream --data sampledatarecord --partition-key samplepartitionkey"))
        put = self.aws("aws kinesis put-records --stream-name samplestream "
                       "--records Data=blob1,PartitionKey=partitionkey1 Data=blob2,PartitionKey=partitionkey2")
        self.assertEqual((put["FailedRecordCount"], len(put["Records"])), (0, 2))
        it = self.aws("aws kinesis get-shard-iterator --stream-name samplestream --shard-id shardId-000000000001 --shard-iterator-type LATEST")
        self.assertEqual(self.aws(f"aws kinesis get-records --shard-iterator {it['ShardIterator']}")["Records"], [])
        for text, r in zip(("blob1", "blob2"), put["Records"]):
            it = self.aws(f"aws kinesis get-shard-iterator --stream-name samplestream --shard-id {r['ShardId']} "
                          f"--shard-iterator-type AT_SEQUENCE_NUMBER --starting-sequence-number {r['SequenceNumber']}")
            first = self.aws(f"aws kinesis get-records --limit 1 --shard-iterator {it['ShardIterator']}")["Records"][0]
            self.assertEqual(base64.b64decode(first["Data"]).decode(), text)

    def tags(self):
        self.silent("aws kinesis add-tags-to-stream --stream-name samplestream --tags samplekey=example")
        self.assertEqual(self.aws("aws kinesis list-tags-for-stream --stream-name samplestream"),
                         {"Tags": [{"Key": "samplekey", "Value": "example"}], "HasMoreTags": False})
        self.silent("aws kinesis remove-tags-from-stream --stream-name samplestream --tag-keys samplekey")
        self.assertEqual(self.aws("aws kinesis list-tags-for-stream --stream-name samplestream"), {"Tags": [], "HasMoreTags": False})

    def active(self):
        return self.becomes_active("samplestream", "UPDATING")

    def settings(self):
        self.silent("aws kinesis increase-stream-retention-period --stream-name samplestream --retention-period-hours 168")
        self.assertEqual(self.active()["RetentionPeriodHours"], 168)
        self.silent("aws kinesis decrease-stream-retention-period --stream-name samplestream --retention-period-hours 48")
        self.assertEqual(self.active()["RetentionPeriodHours"], 48)
        on = self.aws("aws kinesis enable-enhanced-monitoring --stream-name samplestream --shard-level-metrics ALL")
        self.assertEqual((on["CurrentShardLevelMetrics"], set(on["DesiredShardLevelMetrics"])), ([], METRICS))
        self.active()
        off = self.aws("aws kinesis disable-enhanced-monitoring --stream-name samplestream --shard-level-metrics ALL")
        self.assertEqual((set(off["CurrentShardLevelMetrics"]), off["DesiredShardLevelMetrics"]), (METRICS, []))
        self.active()
        self.silent(f"aws kinesis start-stream-encryption --encryption-type KMS --key-id {KEY} --stream-name samplestream")
        self.assertEqual(self.active()["KeyId"], KEY)
        put = self.aws("aws kinesis put-record --stream-name samplestream --data sampledatarecord --partition-key samplepartitionkey")
        self.assertEqual(put["EncryptionType"], "KMS")
        self.silent(f"aws kinesis stop-stream-encryption --encryption-type KMS --key-id {KEY} --stream-name samplestream")
        self.assertEqual(self.active()["EncryptionType"], "NONE")

    def consumers(self):
        arn = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/samplestream"
        name = "--consumer-name KinesisConsumerApplication"
        made = self.aws(f"aws kinesis register-stream-consumer --stream-arn {arn} {name}")["Consumer"]
        self.assertRegex(made["ConsumerARN"], "^" + re.escape(arn) + r"/consumer/KinesisConsumerApplication:\d+$")
        self.assertEqual(made["ConsumerStatus"], "CREATING")
        self.minute_passes()
        got = self.aws(f"aws kinesis describe-stream-consumer --stream-arn {arn} {name}")["ConsumerDescription"]
        self.assertEqual((got["ConsumerARN"], got["StreamARN"], got["ConsumerStatus"]), (made["ConsumerARN"], arn, "ACTIVE"))
        self.assertEqual(self.aws(f"aws kinesis list-stream-consumers --stream-arn {arn}")["Consumers"][0]["ConsumerARN"], made["ConsumerARN"])
        self.silent(f"aws kinesis deregister-stream-consumer --stream-arn {arn} {name}")

    def resharding(self):
        count = self.aws("aws kinesis update-shard-count --stream-name samplestream --scaling-type UNIFORM_SCALING --target-shard-count 6")
        self.assertEqual((count["StreamName"], count["CurrentShardCount"], count["TargetShardCount"]), ("samplestream", 3, 6))
        self.assertEqual(self.active()["OpenShardCount"], 6)
        # The examples split and merge shards of a new stream.
        self.silent("aws kinesis create-stream --stream-name samplestream1 --shard-count 2")
        self.becomes_active("samplestream1", "CREATING")
        self.silent("aws kinesis merge-shards --stream-name samplestream1 --shard-to-merge shardId-000000000000 "
                    "--adjacent-shard-to-merge shardId-000000000001")
        self.assertEqual(self.becomes_active("samplestream1", "UPDATING")["OpenShardCount"], 1)
        self.silent("aws kinesis split-shard --stream-name samplestream1 --shard-to-split shardId-000000000002 --new-starting-hash-key 10")
        self.becomes_active("samplestream1", "UPDATING")
        shards = self.aws("aws kinesis list-shards --stream-name samplestream1")["Shards"]
        self.assertEqual([(s.get("ParentShardId", "")[-1:], s.get("AdjacentParentShardId", "")[-1:], s["HashKeyRange"]["StartingHashKey"]) for s in shards[2:]],
                         [("0", "1", "0"), ("2", "", "0"), ("2", "", "10")])
        self.assertEqual(["EndingSequenceNumber" in s["SequenceNumberRange"] for s in shards], [True, True, True, False, False])


if __name__ == "__main__":
    unittest.main()
