#!/bin/bash
# perl on the library computes the same as without: hashes, sorts, regexes, strings that grow,
# forks that work on, and threads (each of which clones the whole interpreter).
. "$(dirname "$0")/lib.sh"
need perl

write_program() {
    cat >program.pl <<'PROGRAM'
use strict;
use warnings;
use Config;
use Digest::SHA qw(sha256_hex);
use Storable qw(freeze dclone);
use Data::Dumper;
BEGIN { if ($Config{useithreads}) { require threads; threads->import } }
$Data::Dumper::Sortkeys = $Storable::canonical = 1;
$| = 1;
my $maps = shift @ARGV;

sub keep_maps {
    my ($name) = @_;
    open my $in, '<', '/proc/self/maps' or die "maps: $!";
    open my $out, '>', "$maps/$name" or die "$maps/$name: $!";
    print {$out} <$in>;
    close $out or die "$maps/$name: $!";
}

# A fixed sequence of pseudo-random numbers (Park and Miller's).
sub numbers {
    my ($seed, $count, $below) = @_;
    return map { $seed = $seed * 16807 % 2147483647; $seed % $below } 1 .. $count;
}

sub hashes {
    my ($seed, $count) = @_;
    my %made;
    for my $n (numbers($seed, $count, 20000)) {
        push @{ $made{"key$n"}{list} }, $n x (1 + $n % 9);
        $made{"key$n"}{text} .= 'x' x ($n % 200);
        delete $made{ 'key' . ($n >> 1) } if $n % 3 == 0;
        $made{"large$n"} = 'y' x (200000 + $n) if $n < 20;
    }
    return sha256_hex(map { ("$_=", ref $made{$_} ? Dumper($made{$_}) : $made{$_}) } sort keys %made);
}

sub sorts {
    my @words = map { sprintf '%x-%d', $_, $_ % 77 } numbers(2, 120000, 1 << 30);
    my @by_tail = sort { substr($a, -3) cmp substr($b, -3) || $a cmp $b } @words;
    my %seen;
    my @unique = grep { !$seen{ substr $_, 0, 3 }++ } @by_tail;
    return sha256_hex(join ',', @by_tail, @unique, reverse sort { length $a <=> length $b or $a cmp $b } @words);
}

sub regexes {
    my $text = join ' ', map { "word$_:" . $_ % 17 } numbers(3, 80000, 1 << 20);
    (my $changed = $text) =~ s/word(\d+):(\d+)/$2 . '-' . sprintf '%o', $1/ge;
    my %count;
    $count{$1}++ while $changed =~ /\b(\d+)-(?=7)/g;
    my @parts = split /[ -]/, $changed;
    my @nested = $text =~ /((?:word(\d+):\d+ ){5})/g;
    return sha256_hex(join ',', $changed, scalar @parts, scalar @nested, map { "$_$count{$_}" } sort keys %count);
}

# Grown a little at a time, as realloc likes it least, and in place of shared copies.
sub growth {
    my ($text, @pieces) = ('');
    for my $n (numbers(4, 60000, 300)) {
        $text .= chr(32 + $n % 90) x $n;
        push @pieces, substr $text, -50 if $n % 50 == 0;
        substr($text, 0, 1000, '') if $n % 100 == 0;
    }
    return length($text) . ' ' . sha256_hex($text, @pieces);
}

sub structures {
    my $tree = {};
    for my $n (numbers(5, 20000, 1 << 16)) {
        my $at = $tree;
        $at = $at->{$_} //= {} for split //, $n;
        $at->{end} = [ ($n) x ($n % 5) ];
    }
    my $copy = dclone($tree);
    return sha256_hex(freeze($tree), freeze($copy));
}

sub forks {
    my @results;
    for my $round (1 .. 12) {
        pipe my $from, my $to or die "pipe: $!";
        defined(my $child = fork) or die "fork: $!";
        if (!$child) {
            keep_maps("child-$$");
            print $to hashes($round, 6000);
            close $to;
            exit 0;
        }
        close $to;
        push @results, scalar <$from>;
        waitpid $child, 0;
        die "child $round ended with $?" if $?;
    }
    return sha256_hex(@results);
}

sub with_threads {
    return 'built without threads' unless $Config{useithreads};
    my @results;
    for my $round (1 .. 4) {
        my @threads = map { my $seed = $round * 8 + $_; threads->create(sub { hashes($seed, 4000) }) } 1 .. 8;
        push @results, map { $_->join } @threads;
    }
    return sha256_hex(@results);
}

keep_maps('main');
my %tests = (
    hashes => sub { hashes(1, 100000) }, sorts => \&sorts, regexes => \&regexes, growth => \&growth,
    structures => \&structures, forks => \&forks, threads => \&with_threads,
);
print "$_ ", $tests{$_}->(), "\n" for sort keys %tests;
print 'command ', scalar `echo from a shell`;
PROGRAM
}

work() {
    write_program
    PERL_HASH_SEED=0 run perl program.pl "$maps" >"$results/output" 2>"$logs/stderr"
    cp "$logs/stderr" "$results/stderr"
}

calls_go_to_library perl -e 'system("cat", "/dev/null") == 0 or die'
compare_runs work
