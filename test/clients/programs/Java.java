// One story told with io.sentry:sentry: java -cp sentry.jar Java.java <dsn>
import io.sentry.Attachment;
import io.sentry.Breadcrumb;
import io.sentry.Hint;
import io.sentry.ITransaction;
import io.sentry.Sentry;
import io.sentry.SentryLevel;
import io.sentry.protocol.User;
import java.util.Map;

public class Java {
  static class PaymentException extends RuntimeException {
    PaymentException(String message, Throwable cause) {
      super(message, cause);
    }
  }

  static void loadCart(int order) {
    try {
      Integer.parseInt("no number");
    } catch (NumberFormatException cause) {
      throw new IllegalStateException("could not load cart " + order, cause);
    }
  }

  static void checkout(int order) {
    try {
      loadCart(order);
    } catch (IllegalStateException cause) {
      throw new PaymentException("checkout failed for order " + order, cause);
    }
  }

  public static void main(String[] args) {
    Sentry.init(options -> {
      options.setDsn(args[0]);
      options.setRelease("shop-bank@1.4.2");
      options.setEnvironment("staging");
      options.setDist("77");
      options.setServerName("bank-01.example.com");
      options.setTracesSampleRate(1.0);
    });
    Sentry.configureScope(scope -> {
      User user = new User();
      user.setId("u-77");
      user.setEmail("alice@example.com");
      user.setUsername("alice");
      user.setIpAddress("203.0.113.7");
      scope.setUser(user);
      scope.setTag("region", "eu-west-1");
      scope.setTag("attempt", "3");
      scope.setContexts("order", Map.of("id", "ord_987", "amount", 1999, "currency", "EUR"));
      scope.setExtra("total", "19.99");
    });
    Breadcrumb breadcrumb = new Breadcrumb("cart opened");
    breadcrumb.setCategory("cart");
    breadcrumb.setLevel(SentryLevel.INFO);
    breadcrumb.setData("items", 2);
    Sentry.addBreadcrumb(breadcrumb);
    Sentry.startSession();
    ITransaction transaction = Sentry.startTransaction("POST /checkout", "http.server");
    try {
      checkout(987);
    } catch (PaymentException error) {
      byte[] cart = "{\"id\":987}".getBytes();
      Sentry.captureException(error, Hint.withAttachment(new Attachment(cart, "cart.json", "application/json")));
    }
    transaction.finish();
    Sentry.captureMessage("Payments are slow", SentryLevel.WARNING);
    Sentry.endSession();
    Sentry.close();
  }
}
