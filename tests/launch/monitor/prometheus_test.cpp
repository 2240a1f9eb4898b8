#include "launch/monitor/prometheus.h"

#include <gtest/gtest.h>

namespace cadre::launch {
namespace {

TEST(ListenAddress, IsAPortOrAnAddressWithOne) {
  EXPECT_EQ(listen_address("9400"), "127.0.0.1:9400");
  EXPECT_EQ(listen_address("0.0.0.0:1"), "0.0.0.0:1");
  EXPECT_EQ(listen_address("[::1]:65535"), "[::1]:65535");
  for (const char* text :
       {"", "0", "65536", "-1", "94x", ":9400", "1.2.3.4:", "localhost", "http://x:1", "1.2.3.4,5:1"})
    EXPECT_EQ(listen_address(text), "") << text;
}

}  // namespace
}  // namespace cadre::launch
