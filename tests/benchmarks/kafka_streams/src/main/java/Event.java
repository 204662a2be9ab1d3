import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;

/** One event, read from JSON by Jackson's streaming parser, which is faster than its data binding. */
final class Event {
    private static final JsonFactory JSON = new JsonFactory();

    String user;
    String type;
    String item;
    String id;
    String category;
    long timestamp; // ms since the epoch
    double price = -1; // -1: none
    double quantity = -1; // -1: none
    double rating; // 0: none

    static Event parse(byte[] json) throws IOException {
        Event event = new Event();
        try (JsonParser parser = JSON.createParser(json)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw new IOException("an event is expected to be a JSON object");
            }
            for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
                JsonToken token = parser.nextToken();
                if (token == JsonToken.VALUE_NULL) {
                    continue;
                }
                switch (name) {
                    case "user_id" -> event.user = parser.getText();
                    case "type" -> event.type = parser.getText();
                    case "item_id" -> event.item = parser.getText();
                    case "event_id" -> event.id = parser.getText();
                    case "category_id" -> event.category = parser.getText();
                    case "timestamp" -> event.timestamp = parser.getLongValue();
                    case "price" -> event.price = parser.getDoubleValue();
                    case "quantity" -> event.quantity = parser.getDoubleValue();
                    case "rating" -> event.rating = parser.getDoubleValue();
                    default -> parser.skipChildren();
                }
            }
        }
        return event;
    }
}
