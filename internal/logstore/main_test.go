package logstore

import (
	"testing"

	"github.com/shardlog/shardlog/internal/leaktest"
)

func init() { PoisonBorrowed(true) }

func TestMain(m *testing.M) { leaktest.Main(m) }
