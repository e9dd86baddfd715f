// One story told with sentry-go: client <dsn>
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/getsentry/sentry-go"
)

type PaymentError struct {
	Order int
	Cause error
}

func (e *PaymentError) Error() string { return fmt.Sprintf("checkout failed for order %d", e.Order) }
func (e *PaymentError) Unwrap() error { return e.Cause }

func loadCart(order int) error {
	return fmt.Errorf("could not load cart %d: %w", order, errors.New("no such cart"))
}

func checkout(order int) error {
	if err := loadCart(order); err != nil {
		return &PaymentError{Order: order, Cause: err}
	}
	return nil
}

func main() {
	err := sentry.Init(sentry.ClientOptions{
		Dsn:              os.Args[1],
		Release:          "shop-gate@1.4.2",
		Environment:      "staging",
		Dist:             "77",
		ServerName:       "gate-01.example.com",
		AttachStacktrace: true,
		EnableTracing:    true,
		TracesSampleRate: 1,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	sentry.ConfigureScope(func(scope *sentry.Scope) {
		scope.SetUser(sentry.User{ID: "u-77", Email: "alice@example.com", Username: "alice", IPAddress: "203.0.113.7"})
		scope.SetTags(map[string]string{"region": "eu-west-1", "attempt": "3"})
		scope.SetContext("order", sentry.Context{"id": "ord_987", "amount": 1999, "currency": "EUR"})
	})
	sentry.AddBreadcrumb(&sentry.Breadcrumb{Category: "cart", Message: "cart opened", Level: sentry.LevelInfo, Data: map[string]interface{}{"items": 2}})
	span := sentry.StartSpan(sentry.SetHubOnContext(context.Background(), sentry.CurrentHub()), "http.server", sentry.WithTransactionName("POST /checkout"))
	sentry.WithScope(func(scope *sentry.Scope) {
		scope.AddAttachment(&sentry.Attachment{Filename: "cart.json", ContentType: "application/json", Payload: []byte(`{"id":987}`)})
		sentry.CaptureException(checkout(987))
	})
	span.Finish()
	sentry.WithScope(func(scope *sentry.Scope) {
		scope.SetLevel(sentry.LevelWarning)
		sentry.CaptureMessage("Payments are slow")
	})
	if !sentry.Flush(10 * time.Second) {
		os.Exit(3)
	}
}
