package shardlog;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.SdkSystemSetting;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.Record;
import software.amazon.awssdk.services.kinesis.model.ResourceInUseException;
import software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardEvent;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardResponseHandler;

/**
 * Drives a running endpoint with the AWS SDK for Java 2, which speaks CBOR
 * unless it is told not to, and HTTP/2 in its asynchronous client. SHARDLOG
 * names the binary; it is started and ended here.
 */
class SdkTest {
  static Process server;
  static URI url;

  static final StaticCredentialsProvider CREDENTIALS =
      StaticCredentialsProvider.create(AwsBasicCredentials.create("123456789012", "secret"));

  @BeforeAll
  static void start() throws Exception {
    server = new ProcessBuilder(System.getenv("SHARDLOG"), "serve", "-addr", "127.0.0.1:0")
        .redirectError(ProcessBuilder.Redirect.INHERIT).start();
    String line = new BufferedReader(new InputStreamReader(server.getInputStream())).readLine();
    url = URI.create(line.substring(line.lastIndexOf(' ') + 1));
  }

  @AfterAll
  static void end() throws Exception {
    server.destroy();
    assertTrue(server.waitFor(20, TimeUnit.SECONDS));
    assertEquals(0, server.exitValue());
  }

  static String arn(String name) {
    return "arn:aws:kinesis:eu-west-1:123456789012:stream/" + name;
  }

  @ParameterizedTest
  @ValueSource(strings = {"true", "false"})
  void blocking(String cbor) {
    System.setProperty(SdkSystemSetting.CBOR_ENABLED.property(), cbor);
    String name = "blocking-" + cbor;
    try (KinesisClient k = KinesisClient.builder().endpointOverride(url).region(Region.EU_WEST_1)
        .credentialsProvider(CREDENTIALS).httpClientBuilder(UrlConnectionHttpClient.builder()).build()) {
      k.createStream(r -> r.streamName(name).shardCount(1).tags(Map.of("a", "b")));
      k.waiter().waitUntilStreamExists(r -> r.streamName(name));
      byte[] data = {0, 1, (byte) 0xff, (byte) 0xfe};
      var put = k.putRecord(r -> r.streamName(name).partitionKey("ü").data(SdkBytes.fromByteArray(data)));
      k.putRecords(r -> r.streamName(name).records(e -> e.partitionKey("k").data(SdkBytes.fromUtf8String("two"))));
      Instant before = Instant.now().minusSeconds(60);
      var it = k.getShardIterator(r -> r.streamName(name).shardId(put.shardId())
          .shardIteratorType(ShardIteratorType.AT_TIMESTAMP).timestamp(before));
      List<Record> records = k.getRecords(r -> r.shardIterator(it.shardIterator())).records();
      assertEquals(2, records.size());
      assertArrayEquals(data, records.get(0).data().asByteArray());
      assertEquals("ü", records.get(0).partitionKey());
      assertTrue(Duration.between(records.get(0).approximateArrivalTimestamp(), Instant.now()).abs().toSeconds() < 60);
      var description = k.describeStream(r -> r.streamName(name)).streamDescription();
      assertEquals(arn(name), description.streamARN());
      assertTrue(Duration.between(description.streamCreationTimestamp(), Instant.now()).abs().toSeconds() < 60);
      k.splitShard(r -> r.streamName(name).shardToSplit(put.shardId()).newStartingHashKey("1000"));
      assertEquals(3, k.listShards(r -> r.streamName(name)).shards().size());
      assertEquals("b", k.listTagsForStream(r -> r.streamName(name)).tags().get(0).value());
      var e = assertThrows(ResourceNotFoundException.class, () -> k.describeStream(r -> r.streamName("none")));
      assertEquals("Stream none under account 123456789012 not found.", e.awsErrorDetails().errorMessage());
      assertThrows(ResourceInUseException.class, () -> k.createStream(r -> r.streamName(name).shardCount(1)));
    }
  }

  @Test
  void fanOutOverHttp2() throws Exception {
    System.setProperty(SdkSystemSetting.CBOR_ENABLED.property(), "true");
    String name = "fan-out";
    try (KinesisAsyncClient k = KinesisAsyncClient.builder().endpointOverride(url).region(Region.EU_WEST_1)
        .credentialsProvider(CREDENTIALS).build()) {
      k.createStream(r -> r.streamName(name).shardCount(1)).get();
      for (int i = 0; i < 100; i++) {
        String n = Integer.toString(i);
        k.putRecord(r -> r.streamName(name).partitionKey("k").data(SdkBytes.fromUtf8String(n))).get();
      }
      k.splitShard(r -> r.streamName(name).shardToSplit("shardId-000000000000").newStartingHashKey("1000")).get();
      String consumer = k.registerStreamConsumer(r -> r.streamARN(arn(name)).consumerName("c")).get().consumer().consumerARN();
      List<SubscribeToShardEvent> events = Collections.synchronizedList(new ArrayList<>());
      var handler = SubscribeToShardResponseHandler.builder().subscriber(SubscribeToShardResponseHandler.Visitor.builder()
          .onSubscribeToShardEvent(events::add).build()).build();
      k.subscribeToShard(r -> r.consumerARN(consumer).shardId("shardId-000000000000")
          .startingPosition(p -> p.type(ShardIteratorType.TRIM_HORIZON)), handler).get(30, TimeUnit.SECONDS);
      List<String> got = new ArrayList<>();
      for (SubscribeToShardEvent e : events) {
        for (Record r : e.records()) {
          got.add(r.data().asUtf8String());
        }
      }
      assertEquals(100, got.size());
      assertEquals("99", got.get(99));
      SubscribeToShardEvent last = events.get(events.size() - 1);
      assertEquals(2, last.childShards().size());
    }
  }
}
