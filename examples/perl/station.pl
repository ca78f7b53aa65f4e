# A weather station: a node of AnyEvent::MP. station.pl PLACE [SEED]
#
# Its port is in the family "stations". It answers `read`, and sends `reading` each second to whoever said `watch`.

use common::sense;
use AnyEvent;
use AnyEvent::MP;

$| = 1;

my ($place, $seed) = @ARGV;
length $place or die "usage: perl station.pl PLACE [SEED]\n";

my $degrees = 15;
my %panels;    # who watches => the guard of its monitor
our %alarms;   # port of an alarm => its limit, and whom it tells

# spawned by panels: a port that rings once it is warmer than the limit, and ends
sub station::alarm {
   my ($limit, $panel) = @_;
   my $alarm = $SELF;
   rcv $alarm, stop => sub { kil $alarm, "stopped" };
   $alarms{$alarm} = [$limit, $panel];
   mon $alarm, sub { delete $alarms{$alarm} };
   mon $panel, $alarm;
}

configure
   nodeid => "station-$place",
   binds  => ["127.0.0.1:0"],
   seeds  => [$seed || "127.0.0.1:4040"],
   secret => $ENV{GMP_SECRET} || die "GMP_SECRET has no secret\n";

my $station = port;

rcv $station,
   read  => sub {
      my ($reply) = @_;
      snd $reply, degrees => $degrees;
   },
   watch => sub {
      my ($panel) = @_;
      print "$place is watched\n";
      $panels{$panel} = mon $panel, sub {
         print "$place: a panel is gone ($_[0])\n";
         delete $panels{$panel};
      };
   };

db_reg stations => $station, $place;

my $clock = AE::timer 1, 1, sub {
   $degrees += 0.5;
   snd $_, reading => $place, $degrees
      for keys %panels;
   for my $alarm (keys %alarms) {
      my ($limit, $panel) = @{ $alarms{$alarm} };
      next if $degrees <= $limit;
      snd $panel, ring => $place, $limit;
      kil $alarm;
   }
};

print "$place measures\n";
AE::cv->recv;
