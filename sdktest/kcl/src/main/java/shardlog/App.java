package shardlog;

import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentialsProvider;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;

/**
 * A KCL application that says on standard output what it is called for, a line
 * each, and stops when its standard input ends.
 *
 * Arguments: the stream, the application, the URLs of Kinesis and DynamoDB, and
 * how many records to process, 0 for all. After so many it checkpoints the last
 * of them, and nothing after it.
 */
public final class App {
    private static final AtomicInteger left = new AtomicInteger();

    public static void main(String[] args) throws Exception {
        String stream = args[0];
        String app = args[1];
        URI kinesisURL = URI.create(args[2]);
        URI dynamoURL = URI.create(args[3]);
        int most = Integer.parseInt(args[4]);
        left.set(most == 0 ? Integer.MAX_VALUE : most);

        AwsCredentialsProvider test = StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test"));
        KinesisAsyncClient kinesis = KinesisClientUtil.createKinesisAsyncClient(KinesisAsyncClient.builder()
                .endpointOverride(kinesisURL).region(Region.US_EAST_1).credentialsProvider(test));
        DynamoDbAsyncClient dynamo = DynamoDbAsyncClient.builder()
                .endpointOverride(dynamoURL).region(Region.US_EAST_1).credentialsProvider(test).build();
        // Never called: metrics are off.
        CloudWatchAsyncClient cloudWatch = CloudWatchAsyncClient.builder()
                .endpointOverride(URI.create("http://127.0.0.1:1")).region(Region.US_EAST_1).credentialsProvider(test).build();

        InitialPositionInStreamExtended start =
                InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        ConfigsBuilder c = new ConfigsBuilder(new SingleStreamTracker(stream, start), app, kinesis, dynamo, cloudWatch,
                "kcl-" + UUID.randomUUID(), Processor::new);
        // Everything that waits is set to wait less than the check does.
        var leases = c.leaseManagementConfig()
                .failoverTimeMillis(20_000)
                .leaseAssignmentIntervalMillis(1000L)
                .shardSyncIntervalMillis(1000)
                .leasesRecoveryAuditorExecutionFrequencyMillis(1000)
                .leasesRecoveryAuditorInconsistencyConfidenceThreshold(1);
        leases.workerUtilizationAwareAssignmentConfig().disableWorkerMetrics(true).workerMetricsReporterFreqInMillis(1000);
        Scheduler scheduler = new Scheduler(
                c.checkpointConfig(),
                c.coordinatorConfig().parentShardPollIntervalMillis(200).shardConsumerDispatchPollIntervalMillis(200),
                leases,
                c.lifecycleConfig(),
                c.metricsConfig().metricsFactory(new NullMetricsFactory()),
                c.processorConfig(),
                c.retrievalConfig().retrievalSpecificConfig(
                        new FanOutConfig(kinesis).streamName(stream).applicationName(app)));
        Thread run = new Thread(scheduler, "scheduler");
        run.setDaemon(true);
        run.start();
        say("started");
        while (System.in.read() >= 0) {
        }
        boolean graceful = scheduler.startGracefulShutdown().get(60, TimeUnit.SECONDS);
        run.join(Duration.ofSeconds(60).toMillis());
        say(graceful && !run.isAlive() ? "stopped" : "stopped by force");
        System.exit(0);
    }

    private static synchronized void say(String... words) {
        System.out.println(String.join(" ", words));
        System.out.flush();
    }

    private static final class Processor implements ShardRecordProcessor {
        private String shard;
        private boolean cut; // there were records that were not processed

        @Override
        public void initialize(InitializationInput in) {
            shard = in.shardId();
            say("initialized", shard, in.extendedSequenceNumber().sequenceNumber(),
                    Long.toString(in.extendedSequenceNumber().subSequenceNumber()));
        }

        @Override
        public void processRecords(ProcessRecordsInput in) {
            KinesisClientRecord last = null;
            for (KinesisClientRecord r : in.records()) {
                // Only one record can be the last: the others see less than 0.
                if (left.decrementAndGet() < 0) {
                    cut = true;
                    break;
                }
                say("record", shard, r.partitionKey(), StandardCharsets.UTF_8.decode(r.data()).toString(), r.sequenceNumber(),
                        Long.toString(r.subSequenceNumber()));
                last = r;
            }
            if (last != null) {
                KinesisClientRecord at = last;
                checkpoint("processRecords", () -> in.checkpointer().checkpoint(at.sequenceNumber(), at.subSequenceNumber()));
            }
            if (left.get() <= 0) {
                say("limit", shard);
            }
        }

        @Override
        public void leaseLost(LeaseLostInput in) {
            say("lost", shard);
        }

        @Override
        public void shardEnded(ShardEndedInput in) {
            if (!cut) {
                checkpoint("shardEnded", () -> in.checkpointer().checkpoint());
                say("ended", shard);
            }
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput in) {
            say("requested", shard);
        }

        private interface Action {
            void run() throws Exception;
        }

        private void checkpoint(String when, Action action) {
            try {
                action.run();
            } catch (Exception e) {
                say("failed", shard, when, e.toString().replaceAll("\\s+", " "));
            }
        }
    }
}
