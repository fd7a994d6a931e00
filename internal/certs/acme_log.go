package certs

import (
	"context"
	"log/slog"
	"strings"

	"go.uber.org/zap/zapcore"
)

// zapToSlog writes what certmagic logs to our log, one level lower. Attempts that
// fail are written at debug, since [ACME.event] logs them. Debug entries, which
// quote what was sent and received, are dropped.
type zapToSlog struct {
	handler slog.Handler
	highest slog.Level
}

func (z *zapToSlog) level(e zapcore.Entry) slog.Level {
	switch {
	case e.LoggerName == "obtain", e.LoggerName == "renew", strings.HasSuffix(e.LoggerName, "acme_client"):
		return slog.LevelDebug
	case e.Level >= zapcore.DPanicLevel:
		return min(slog.LevelError, z.highest)
	case e.Level == zapcore.ErrorLevel:
		return min(slog.LevelWarn, z.highest)
	case e.Level == zapcore.WarnLevel:
		return min(slog.LevelInfo, z.highest)
	}
	return slog.LevelDebug
}

func (z *zapToSlog) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel }

func (z *zapToSlog) With(fields []zapcore.Field) zapcore.Core {
	return &zapToSlog{handler: z.handler.WithAttrs(attrs(fields)), highest: z.highest}
}

func (z *zapToSlog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if z.Enabled(e.Level) && z.handler.Enabled(context.Background(), z.level(e)) {
		return ce.AddCore(e, z)
	}
	return ce
}

func (z *zapToSlog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	record := slog.NewRecord(e.Time, z.level(e), "acme: "+e.Message, 0)
	record.AddAttrs(attrs(fields)...)
	return z.handler.Handle(context.Background(), record)
}

func (z *zapToSlog) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	var all []slog.Attr
	for _, field := range fields {
		enc := zapcore.NewMapObjectEncoder()
		field.AddTo(enc)
		for key, value := range enc.Fields {
			all = append(all, slog.Any(key, value))
		}
	}
	return all
}
