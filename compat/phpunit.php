<?php
// PHP's own test framework of today cannot run suites that were written for its version 5: this stands in for the part that they use.
// php phpunit.php FILE...: runs the tests of each file, prints a line for every one that fails or is skipped, and the totals.
namespace PHPUnit\Framework {
    class Failed extends \Exception {}
    class Skipped extends \Exception {}

    class TestCase {
        private $wanted = null;

        public static function setUpBeforeClass() {}
        public static function tearDownAfterClass() {}
        public function setUp() {}
        public function tearDown() {}

        public function run($name) {
            $this->setUp();
            try {
                $this->$name();
            } catch (Failed | Skipped $error) {
                throw $error;
            } catch (\Throwable $error) {
                $this->compareWithWanted($error);
                return;
            } finally {
                $this->tearDown();
            }
            $this->check(!$this->wanted, "no {$this->wanted[0]} was thrown");
        }

        private function compareWithWanted($error) {
            if (!$this->wanted || !($error instanceof $this->wanted[0])) {
                throw $error;
            }
            [, $text, $code] = $this->wanted;
            $this->check($text === null || strpos($error->getMessage(), $text) !== false, "thrown: {$error->getMessage()}");
            $this->check($code === null || $error->getCode() == $code, "code {$error->getCode()}");
        }

        private function check($holds, $text) {
            if (!$holds) {
                throw new Failed($text);
            }
        }

        private function show($value) {
            return is_scalar($value) || $value === null ? var_export($value, true) : gettype($value);
        }

        private function holds($needle, $whole) {
            return is_string($whole) ? strpos($whole, $needle) !== false : in_array($needle, $whole);
        }

        public function setExpectedException($class, $text = null, $code = null) { $this->wanted = [$class, $text, $code]; }
        public function markTestSkipped($text) { throw new Skipped($text); }
        public function assertTrue($value) { $this->check($value === true, $this->show($value)); }
        public function assertFalse($value) { $this->check($value === false, $this->show($value)); }
        public function assertNull($value) { $this->check($value === null, $this->show($value)); }
        public function assertEmpty($value) { $this->check(empty($value), $this->show($value)); }
        public function assertNotEmpty($value) { $this->check(!empty($value), $this->show($value)); }
        public function assertEquals($wanted, $value) { $this->check($wanted == $value, "{$this->show($value)}, not {$this->show($wanted)}"); }
        public function assertNotEquals($wanted, $value) { $this->check($wanted != $value, $this->show($value)); }
        public function assertContains($needle, $whole) { $this->check($this->holds($needle, $whole), "{$this->show($needle)} is missing"); }
        public function assertNotContains($needle, $whole) { $this->check(!$this->holds($needle, $whole), "{$this->show($needle)} is there"); }
        public function assertArrayHasKey($key, $array) { $this->check(array_key_exists($key, $array), "no $key"); }
        public function assertArrayNotHasKey($key, $array) { $this->check(!array_key_exists($key, $array), $key); }
        public function assertGreaterThan($least, $value) { $this->check($value > $least, $this->show($value)); }
        public function assertGreaterThanOrEqual($least, $value) { $this->check($value >= $least, $this->show($value)); }
        public function assertStringEndsWith($end, $text) { $this->check(str_ends_with($text, $end), $text); }
    }
}

namespace {
    use PHPUnit\Framework\Skipped;
    use PHPUnit\Framework\TestCase;

    error_reporting(E_ALL & ~E_DEPRECATED & ~E_WARNING);  // of the SDK, which is older than this PHP
    require 'src/autoload.php';

    function run_one($class, $name, &$counts) {
        try {
            (new $class())->run($name);
            $counts['passed']++;
        } catch (Skipped $error) {
            $counts['skipped']++;
            echo "skipped $class::$name: {$error->getMessage()}\n";
        } catch (\Throwable $error) {
            $counts['failed']++;
            $place = basename($error->getFile()) . ':' . $error->getLine();
            echo "failed $class::$name: " . get_class($error) . " {$error->getMessage()} ($place)\n";
        }
    }

    $counts = ['passed' => 0, 'failed' => 0, 'skipped' => 0];
    $known = get_declared_classes();
    array_map(fn ($file) => require_once $file, array_slice($argv, 1));
    foreach (array_diff(get_declared_classes(), $known) as $class) {
        if (!is_subclass_of($class, TestCase::class)) {
            continue;
        }
        $class::setUpBeforeClass();
        foreach (preg_grep('/^test/', get_class_methods($class)) as $name) {
            run_one($class, $name, $counts);
        }
        $class::tearDownAfterClass();
    }
    echo json_encode($counts), "\n";
}
