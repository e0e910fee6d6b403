import java.nio.file.Files;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.flink.api.common.restartstrategy.RestartStrategies;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.connector.kinesis.sink.KinesisStreamsSink;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.connectors.kinesis.FlinkKinesisConsumer;

/**
 * Fills the stream "numbers" by a bounded job. Two others, one after the other, copy it to "middle", reading by polling, and from there to
 * STREAM, reading by fan-out; each is stopped with a savepoint when it has read everything.
 */
public class Copy {
    // Both run in this process, so that the job can count for main.
    static final AtomicInteger copied = new AtomicInteger();

    static String env(String name) {
        return System.getenv(name);
    }

    static Properties client() {
        Properties p = new Properties();
        p.setProperty("aws.endpoint", env("ENDPOINT"));
        p.setProperty("aws.region", "us-east-1");
        p.setProperty("aws.credentials.provider", "BASIC");
        p.setProperty("aws.credentials.provider.basic.accesskeyid", "test");
        p.setProperty("aws.credentials.provider.basic.secretkey", "test");
        return p;
    }

    static String key(String text) {
        return text.substring(0, text.indexOf(' '));
    }

    // One request at a time keeps the order of each key.
    static KinesisStreamsSink<String> sink(String stream) {
        return KinesisStreamsSink.<String>builder().setKinesisClientProperties(client()).setStreamName(stream)
                .setSerializationSchema(new SimpleStringSchema()).setPartitionKeyGenerator(Copy::key)
                .setMaxInFlightRequests(1).setMaxTimeInBufferMS(200).setFailOnError(true).build();
    }

    static void fill(int records, int keys) throws Exception {
        StreamExecutionEnvironment flink = StreamExecutionEnvironment.createLocalEnvironment(1);
        flink.fromSequence(0, records - 1).map(i -> "key-" + i % keys + " " + i / keys).returns(Types.STRING).sinkTo(sink("numbers"));
        flink.execute("fill");
    }

    static void copy(String from, String to, boolean fanOut, int records) throws Exception {
        StreamExecutionEnvironment flink = StreamExecutionEnvironment.createLocalEnvironment(2);
        flink.enableCheckpointing(500);
        flink.setRestartStrategy(RestartStrategies.noRestart());
        Properties source = client();
        source.setProperty("flink.stream.initpos", "TRIM_HORIZON");
        if (fanOut) {
            source.setProperty("flink.stream.recordpublisher", "EFO");
            source.setProperty("flink.stream.efo.consumername", "copy");
        }
        copied.set(0);
        flink.addSource(new FlinkKinesisConsumer<>(from, new SimpleStringSchema(), source)).returns(Types.STRING)
                .keyBy(Copy::key)
                .map(text -> {
                    copied.incrementAndGet();
                    return text;
                }).returns(Types.STRING)
                .sinkTo(sink(to));
        JobClient job = flink.executeAsync(from + " to " + to);
        for (int i = 0; copied.get() < records; i++) {
            if (i == 900 || job.getJobStatus().get().isTerminalState()) {
                throw new IllegalStateException(copied + " records of " + from + " were read of " + records + ", the job is "
                        + job.getJobStatus().get());
            }
            Thread.sleep(100);
        }
        String savepoint = Files.createTempDirectory("savepoint").toUri().toString();
        job.stopWithSavepoint(false, savepoint, SavepointFormatType.CANONICAL).get(60, TimeUnit.SECONDS);
        System.out.println(copied + " records were copied from " + from + " to " + to + (fanOut ? " by fan-out" : " by polling"));
    }

    public static void main(String[] args) throws Exception {
        int records = Integer.parseInt(env("RECORDS"));
        fill(records, Integer.parseInt(env("KEYS")));
        copy("numbers", "middle", false, records);
        copy("middle", env("STREAM"), true, records);
        System.exit(0);
    }
}
