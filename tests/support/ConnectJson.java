import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Date;
import java.util.Map;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;

/** Reads values, one a line, with Kafka Connect's own converter; prints the fields that are not null, each on a line. */
class ConnectJson {
    public static void main(String[] arguments) throws Exception {
        JsonConverter converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", "true"), false);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Struct struct = (Struct) converter.toConnectData("any", line.getBytes(StandardCharsets.UTF_8)).value();
            struct.validate();
            System.out.println("struct " + struct.schema().name());
            for (Field field : struct.schema().fields()) {
                Object value = struct.get(field);
                if (value != null) {
                    Object shown = value instanceof Date ? ((Date) value).toInstant() : value;
                    System.out.println(field.name() + " " + value.getClass().getSimpleName() + " " + shown);
                }
            }
        }
    }
}
