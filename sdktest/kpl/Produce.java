import com.google.common.util.concurrent.ListenableFuture;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.kinesis.producer.KinesisProducer;
import software.amazon.kinesis.producer.KinesisProducerConfiguration;
import software.amazon.kinesis.producer.UserRecordResult;

/** Puts user records, aggregated: "key number", with numbers that count up for each key. */
public class Produce {
    public static void main(String[] args) throws Exception {
        String stream = System.getenv("STREAM");
        int records = Integer.parseInt(System.getenv("RECORDS"));
        int keys = Integer.parseInt(System.getenv("KEYS"));
        KinesisProducer producer = new KinesisProducer(new KinesisProducerConfiguration()
                .setKinesisEndpoint(System.getenv("HOST"))
                .setKinesisPort(Long.parseLong(System.getenv("PORT")))
                .setStsEndpoint(System.getenv("HOST"))
                .setStsPort(Long.parseLong(System.getenv("PORT")))
                .setVerifyCertificate(false)
                .setRegion("us-east-1")
                .setCredentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test")))
                .setMetricsLevel("none")
                .setRecordMaxBufferedTime(100)
                .setRecordTtl(120_000));
        List<ListenableFuture<UserRecordResult>> results = new ArrayList<>();
        List<String> texts = new ArrayList<>();
        for (int i = 0; i < records; i++) {
            String key = "key-" + i % keys;
            byte[] data = (key + " " + i / keys).getBytes(StandardCharsets.UTF_8);
            texts.add(new String(data, StandardCharsets.UTF_8));
            results.add(producer.addUserRecord(stream, key, ByteBuffer.wrap(data)));
        }
        producer.flush();
        Set<String> stored = new HashSet<>();
        StringBuilder acked = new StringBuilder();
        int attempts = 0;
        for (int i = 0; i < records; i++) {
            UserRecordResult r = results.get(i).get(120, TimeUnit.SECONDS);
            if (!r.isSuccessful()) {
                throw new IllegalStateException("a record was not put: " + r.getAttempts());
            }
            stored.add(r.getSequenceNumber());
            acked.append(texts.get(i)).append('\t').append(r.getSequenceNumber()).append('\n');
            attempts = Math.max(attempts, r.getAttempts().size());
        }
        producer.destroy();
        Files.writeString(Path.of(System.getenv("ACKED")), acked);
        if (stored.size() * 4 > records) {
            throw new IllegalStateException(records + " user records in " + stored.size() + " records: they were not aggregated");
        }
        System.out.println(records + " user records in " + stored.size() + " records, in up to " + attempts + " attempts each");
        System.exit(0);
    }
}
