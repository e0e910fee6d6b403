package logstore

import (
	"testing"

	"github.com/shardlog/shardlog/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
