// Drives a running endpoint with the AWS SDK for JavaScript. SHARDLOG names the
// binary; it is started and ended here.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import * as kinesis from "@aws-sdk/client-kinesis";

const account = "123456789012";
const arn = `arn:aws:kinesis:eu-west-1:${account}:stream/s`;
let server, client, dir;

before(async () => {
  // Signatures are verified, as the SDK makes them.
  dir = mkdtempSync(join(tmpdir(), "keys-"));
  writeFileSync(join(dir, "keys.json"), JSON.stringify({ [account]: "secret" }));
  server = spawn(process.env.SHARDLOG, ["serve", "-addr", "127.0.0.1:0", "-credentials", join(dir, "keys.json")], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(createInterface(server.stdout), "line");
  client = new kinesis.KinesisClient({
    endpoint: line.split(" ").at(-1), region: "eu-west-1", maxAttempts: 1,
    credentials: { accessKeyId: account, secretAccessKey: "secret" },
  });
});

after(async () => {
  client.destroy();
  rmSync(dir, { recursive: true });
  server.kill("SIGTERM");
  const [code] = await once(server, "exit");
  assert.equal(code, 0);
});

const send = (name, input = {}) => client.send(new kinesis[`${name}Command`](input));

test("streams, records and fan-out", async () => {
  await send("CreateStream", { StreamName: "s", ShardCount: 2 });
  const put = await send("PutRecord", { StreamName: "s", Data: Buffer.from([0, 255]), PartitionKey: "ü", ExplicitHashKey: "0" });
  const many = await send("PutRecords", { StreamARN: arn, Records: [{ Data: Buffer.from("two"), PartitionKey: "k", ExplicitHashKey: "1" }] });
  assert.equal(many.FailedRecordCount, 0);
  const { ShardIterator } = await send("GetShardIterator", { StreamName: "s", ShardId: put.ShardId, ShardIteratorType: "AT_TIMESTAMP", Timestamp: new Date(Date.now() - 60000) });
  const got = await send("GetRecords", { ShardIterator });
  assert.deepEqual(got.Records.map((r) => Buffer.from(r.Data)), [Buffer.from([0, 255]), Buffer.from("two")]);
  assert.ok(Math.abs(got.Records[0].ApproximateArrivalTimestamp - Date.now()) < 60000);
  await send("SplitShard", { StreamName: "s", ShardToSplit: put.ShardId, NewStartingHashKey: "1000" });
  const { Consumer } = await send("RegisterStreamConsumer", { StreamARN: arn, ConsumerName: "c" });
  const { EventStream } = await send("SubscribeToShard", { ConsumerARN: Consumer.ConsumerARN, ShardId: put.ShardId, StartingPosition: { Type: "TRIM_HORIZON" } });
  const events = [];
  for await (const event of EventStream) events.push(event.SubscribeToShardEvent);
  assert.equal(events.flatMap((e) => e.Records).length, 2);
  assert.equal(events.at(-1).ChildShards.length, 2);
  const names = [];
  for await (const page of kinesis.paginateListStreams({ client }, { Limit: 1 })) names.push(...page.StreamNames);
  assert.deepEqual(names, ["s"]);
});

test("errors", async () => {
  await assert.rejects(send("DescribeStream", { StreamName: "none" }), (e) => e instanceof kinesis.ResourceNotFoundException && e.message === `Stream none under account ${account} not found.`);
  await assert.rejects(send("GetRecords", { ShardIterator: "x" }), kinesis.InvalidArgumentException);
  await assert.rejects(send("CreateStream", { StreamName: "s", ShardCount: 1 }), kinesis.ResourceInUseException);
});
