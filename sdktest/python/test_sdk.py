"""Drives a running endpoint with boto3 and the aws command line.

SHARDLOG names the binary; it is started and ended here.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ACCOUNT, REGION = "123456789012", "eu-west-1"


class Endpoint(unittest.TestCase):
    keys = None  # access keys and secrets that signatures are verified with

    @classmethod
    def setUpClass(cls):
        command = [os.environ["SHARDLOG"], "serve", "-addr", "127.0.0.1:0"]
        if cls.keys:
            file = tempfile.NamedTemporaryFile("w", suffix=".json")
            cls.addClassCleanup(file.close)
            json.dump(cls.keys, file)
            file.flush()
            command += ["-credentials", file.name]
        cls.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        cls.url = cls.process.stdout.readline().split()[-1]

    @classmethod
    def tearDownClass(cls):
        cls.process.terminate()
        assert cls.process.wait(timeout=20) == 0
        cls.process.stdout.close()

    def setUp(self):
        self.admin("POST", "reset")
        self.called = set()
        self.client = boto3.client("kinesis", endpoint_url=self.url, region_name=REGION, aws_access_key_id=ACCOUNT,
                                   aws_secret_access_key="secret", config=Config(retries={"max_attempts": 1}))
        self.client.meta.events.register("after-call.kinesis.*", lambda model, **_: self.called.add(model.name))

    def tearDown(self):
        self.client.close()

    def admin(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/_shardlog/{path}", data=data, method=method)) as r:
            return json.load(r)

    def arn(self, name):
        return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"

    def code(self, call, **args):
        with self.assertRaises(ClientError) as e:
            call(**args)
        return e.exception.response["Error"]["Code"]

    def test_every_operation(self):
        k, s, arn = self.client, {"StreamName": "s"}, self.arn("s")
        k.create_stream(**s, ShardCount=2, Tags={"a": "b"})
        k.get_waiter("stream_exists").wait(**s)
        shards = k.describe_stream(**s)["StreamDescription"]["Shards"]
        self.assertEqual(len(shards), 2)
        put = k.put_record(**s, Data=b"\x00\xff", PartitionKey="ü", ExplicitHashKey="0")
        self.assertEqual(k.put_records(StreamARN=arn, Records=[{"Data": b"two", "PartitionKey": "k", "ExplicitHashKey": "1"}])["FailedRecordCount"], 0)
        it = k.get_shard_iterator(**s, ShardId=put["ShardId"], ShardIteratorType="AT_SEQUENCE_NUMBER", StartingSequenceNumber=put["SequenceNumber"])
        got = k.get_records(ShardIterator=it["ShardIterator"])
        self.assertEqual([r["Data"] for r in got["Records"]], [b"\x00\xff", b"two"])
        self.assertEqual(got["Records"][0]["PartitionKey"], "ü")
        self.assertNotIn("EncryptionType", got["Records"][0])
        k.split_shard(**s, ShardToSplit=put["ShardId"], NewStartingHashKey="1000")
        k.merge_shards(**s, ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000003")
        k.update_shard_count(**s, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
        self.assertEqual(k.describe_stream_summary(**s)["StreamDescriptionSummary"]["OpenShardCount"], 4)
        k.list_shards(**s)
        k.increase_stream_retention_period(**s, RetentionPeriodHours=48)
        k.decrease_stream_retention_period(**s, RetentionPeriodHours=24)
        self.consumers(arn, put["ShardId"])
        k.add_tags_to_stream(**s, Tags={"c": "d"})
        k.tag_resource(ResourceARN=arn, Tags={"e": "f"})
        self.assertEqual(len(k.list_tags_for_stream(**s)["Tags"]), 3)
        k.remove_tags_from_stream(**s, TagKeys=["c"])
        k.untag_resource(ResourceARN=arn, TagKeys=["e"])
        self.assertEqual(k.list_tags_for_resource(ResourceARN=arn)["Tags"], [{"Key": "a", "Value": "b"}])
        k.start_stream_encryption(**s, EncryptionType="KMS", KeyId="k")
        k.stop_stream_encryption(**s, EncryptionType="KMS", KeyId="k")
        k.enable_enhanced_monitoring(**s, ShardLevelMetrics=["ALL"])
        k.disable_enhanced_monitoring(**s, ShardLevelMetrics=["ALL"])
        k.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
        k.update_stream_warm_throughput(**s, WarmThroughputMiBps=10)
        k.update_max_record_size(StreamARN=arn, MaxRecordSizeInKiB=2048)
        policy = json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kinesis:GetRecords", "Resource": arn}]})
        k.put_resource_policy(ResourceARN=arn, Policy=policy)
        self.assertEqual(k.get_resource_policy(ResourceARN=arn)["Policy"], policy)
        k.delete_resource_policy(ResourceARN=arn)
        k.describe_limits()
        k.update_account_settings(MinimumThroughputBillingCommitment={"Status": "ENABLED"})
        k.describe_account_settings()
        self.assertEqual(k.list_streams()["StreamNames"], ["s"])
        k.delete_stream(**s, EnforceConsumerDeletion=True)
        k.get_waiter("stream_not_exists").wait(**s)
        self.assertEqual(set(k.meta.service_model.operation_names) - self.called, set())

    def consumers(self, arn, shard):
        k = self.client
        consumer = k.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
        self.assertEqual(k.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]["ConsumerStatus"], "ACTIVE")
        self.assertEqual(len(k.list_stream_consumers(StreamARN=arn)["Consumers"]), 1)
        events = [e["SubscribeToShardEvent"] for e in k.subscribe_to_shard(
            ConsumerARN=consumer, ShardId=shard, StartingPosition={"Type": "TRIM_HORIZON"})["EventStream"]]
        self.assertEqual([r["Data"] for e in events for r in e["Records"]], [b"\x00\xff", b"two"])
        self.assertEqual(len(events[-1]["ChildShards"]), 2)
        k.deregister_stream_consumer(ConsumerARN=consumer)

    def test_pages(self):
        for i in range(5):
            self.client.create_stream(StreamName=f"s{i}", ShardCount=1)
        pages = list(self.client.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 2}))
        self.assertEqual([n for p in pages for n in p["StreamNames"]], [f"s{i}" for i in range(5)])
        self.client.create_stream(StreamName="many", ShardCount=205)
        for name, key in (("describe_stream", "StreamDescription"), ("list_shards", None)):
            pages = list(self.client.get_paginator(name).paginate(StreamName="many"))
            shards = [s["ShardId"] for p in pages for s in (p[key] if key else p)["Shards"]]
            self.assertEqual(len(set(shards)), 205)
        for i in range(5):
            self.client.register_stream_consumer(StreamARN=self.arn("s0"), ConsumerName=f"c{i}")
        pages = list(self.client.get_paginator("list_stream_consumers").paginate(StreamARN=self.arn("s0"), PaginationConfig={"PageSize": 2}))
        self.assertEqual(len(pages), 3)

    def test_errors_clock_and_faults(self):
        k = self.client
        k.create_stream(StreamName="s", ShardCount=1)
        self.assertEqual(self.code(k.create_stream, StreamName="s", ShardCount=1), "ResourceInUseException")
        self.assertEqual(self.code(k.describe_stream, StreamName="none"), "ResourceNotFoundException")
        self.assertEqual(self.code(k.get_records, ShardIterator="x"), "InvalidArgumentException")
        self.assertEqual(self.code(k.put_record, StreamName="s", Data=b"", PartitionKey="k" * 257), "ValidationException")
        it = k.get_shard_iterator(StreamName="s", ShardId="shardId-000000000000", ShardIteratorType="LATEST")["ShardIterator"]
        self.admin("PUT", "clock", {"offset": "301s"})
        self.assertEqual(self.code(k.get_records, ShardIterator=it), "ExpiredIteratorException")
        self.admin("PUT", "clock", {"offset": "0s"})
        self.admin("POST", "faults", {"operation": "PutRecords", "records": [1], "action": "throttle", "count": 1})
        batch = [{"Data": b"x", "PartitionKey": "k"}] * 3
        out = k.put_records(StreamName="s", Records=batch)
        self.assertEqual([r.get("ErrorCode") for r in out["Records"]], [None, "ProvisionedThroughputExceededException", None])
        self.assertEqual(k.put_records(StreamName="s", Records=batch)["FailedRecordCount"], 0)

    def test_command_line(self):
        env = dict(os.environ, AWS_ACCESS_KEY_ID=ACCOUNT, AWS_SECRET_ACCESS_KEY="secret", AWS_DEFAULT_REGION=REGION, AWS_PAGER="")
        aws = [sys.executable, "-m", "awscli", "--endpoint-url", self.url, "--output", "json", "kinesis"]

        def run(*args):
            out = subprocess.run(aws + list(args), env=env, check=True, capture_output=True, text=True).stdout
            return json.loads(out) if out.strip() else None

        run("create-stream", "--stream-name", "s", "--shard-count", "1")
        put = run("put-record", "--stream-name", "s", "--partition-key", "k", "--data", "aGVsbG8=")
        it = run("get-shard-iterator", "--stream-name", "s", "--shard-id", put["ShardId"], "--shard-iterator-type", "TRIM_HORIZON")
        got = run("get-records", "--shard-iterator", it["ShardIterator"])
        self.assertEqual(got["Records"][0]["SequenceNumber"], put["SequenceNumber"])
        self.assertEqual(run("list-streams")["StreamNames"], ["s"])
        aws[-1] = "sts"
        self.assertEqual(run("get-caller-identity"), {"UserId": ACCOUNT, "Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:root"})

    def sts(self, key=ACCOUNT, secret="secret", token=None):
        client = boto3.client("sts", endpoint_url=self.url, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret,
                              aws_session_token=token, config=Config(retries={"max_attempts": 1}))
        self.addCleanup(client.close)
        return client

    def test_caller(self):
        who = self.sts().get_caller_identity()
        self.assertEqual([who["Account"], who["UserId"], who["Arn"]], [ACCOUNT, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root"])
        self.assertEqual(who["ResponseMetadata"]["RequestId"], who["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"])
        url = self.sts().generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
        with urllib.request.urlopen(url) as r:
            self.assertIn(f"<Account>{ACCOUNT}</Account>", r.read().decode())
        self.assertEqual(self.code(self.sts().assume_role, RoleArn="arn:aws:iam::111122223333:role/r", RoleSessionName="xx"), "InvalidAction")


class VerifiedEndpoint(Endpoint):
    """Everything again with signatures that are verified, and what they protect."""

    keys = {ACCOUNT: "secret", "210987654321": "another"}
    # It moves the clock further than a signature may be old.
    test_errors_clock_and_faults = None

    def test_accounts_are_apart(self):
        self.client.create_stream(StreamName="s", ShardCount=1)
        it = self.client.get_shard_iterator(StreamName="s", ShardId="0", ShardIteratorType="LATEST")["ShardIterator"]
        other = boto3.client("kinesis", endpoint_url=self.url, region_name=REGION, aws_access_key_id="210987654321",
                             aws_secret_access_key="another", config=Config(retries={"max_attempts": 1}))
        self.addCleanup(other.close)
        self.assertEqual(self.code(other.describe_stream_summary, StreamARN=self.arn("s")), "AccessDeniedException")
        self.assertEqual(self.code(other.get_records, ShardIterator=it), "AccessDeniedException")
        self.assertEqual(other.list_streams()["StreamNames"], [])

    def test_signatures(self):
        self.assertEqual(self.code(self.sts(secret="wrong").get_caller_identity), "SignatureDoesNotMatch")
        self.assertEqual(self.code(self.sts(key="AKIDOTHER").get_caller_identity), "InvalidClientTokenId")
        self.assertEqual(self.code(self.sts(token="x").get_caller_identity), "InvalidClientTokenId")


if __name__ == "__main__":
    unittest.main()
