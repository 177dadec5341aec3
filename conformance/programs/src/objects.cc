// C++: exceptions through many frames, containers, streams, threads, dynamic types.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

struct Shape {
    virtual ~Shape() = default;
    virtual double area() const = 0;
};
struct Square : Shape {
    double side;
    explicit Square(double s) : side(s) {}
    double area() const override { return side * side; }
};
struct Circle : Shape {
    double radius;
    explicit Circle(double r) : radius(r) {}
    double area() const override { return 3.25 * radius * radius; }
};

static int unwound = 0;
struct Guard {
    ~Guard() { unwound++; }
};

static int deep(int level) {
    Guard guard;
    if (level == 0) throw std::out_of_range("bottom");
    if (level % 10 == 5) {
        try {
            return deep(level - 1) + 1;
        } catch (const std::out_of_range &error) {
            throw std::out_of_range(std::string(error.what()) + "," + std::to_string(level));
        }
    }
    return deep(level - 1) + 1;
}

static void exceptions() {
    for (int i = 0; i < 50; i++) {
        try {
            deep(i * 2);
        } catch (const std::exception &error) {
            if (i % 10 == 9) std::cout << error.what() << ' ' << unwound << '\n';
        }
    }
    try {
        std::vector<int>().at(3);
    } catch (const std::out_of_range &) {
        std::cout << "out of range\n";
    }
    std::unique_ptr<Shape> shape = std::make_unique<Circle>(2);
    std::cout << (dynamic_cast<Square *>(shape.get()) == nullptr) << shape->area() << '\n';
    try {
        (void)dynamic_cast<Square &>(*shape);
    } catch (const std::bad_cast &) {
        std::cout << "bad cast\n";
    }
}

static void containers() {
    std::mt19937_64 random(42);
    std::map<std::string, int> sorted;
    std::unordered_map<unsigned long, unsigned long> hashed;
    std::vector<double> values(20000);
    std::normal_distribution<double> bell(5, 2);
    std::uniform_int_distribution<int> dice(1, 6);
    for (auto &value : values) value = bell(random);
    std::sort(values.begin(), values.end());
    std::cout << std::setprecision(17) << values[0] << ' ' << values[10000] << ' ' << std::accumulate(values.begin(), values.end(), 0.0) << '\n';
    for (int i = 0; i < 20000; i++) {
        sorted[std::to_string(random() % 3000)] += dice(random);
        hashed[random() % 5000] ^= random();
    }
    unsigned long sum = 0;
    for (auto &[key, value] : sorted) sum = sum * 31 + value + key.size();
    for (unsigned long i = 0; i < 5000; i++) sum = sum * 31 + (hashed.count(i) ? hashed[i] : 7);
    std::cout << sorted.size() << ' ' << hashed.size() << ' ' << std::hex << sum << std::dec << '\n';
    std::stable_sort(values.begin(), values.end(), [](double a, double b) { return long(a * 10) % 7 < long(b * 10) % 7; });
    std::cout << values[1] << ' ' << values[19999] << '\n';
}

static void streams() {
    std::ostringstream out;
    out << std::hex << std::showbase << 255 << ' ' << std::oct << 8 << ' ' << std::dec << std::fixed << std::setprecision(3) << 3.14159 << ' '
        << std::scientific << 12345.678 << ' ' << std::hexfloat << 0.1 << ' ' << std::boolalpha << true << std::setw(8) << std::setfill('*') << 42;
    std::cout << out.str() << '\n';
    std::istringstream in("12 3.5 word 0x1f");
    int whole;
    double real;
    std::string word;
    in >> whole >> real >> word;
    std::cout << whole << ' ' << std::defaultfloat << real << ' ' << word << '\n';
    std::regex expression("(\\w+)@(\\w+)\\.com");
    std::string text = "alice@example.com, bob@test.com";
    for (std::sregex_iterator at(text.begin(), text.end(), expression), end; at != end; ++at) std::cout << (*at)[1] << " at " << (*at)[2] << '\n';
}

static void threads() {
    std::atomic<long> total{0};
    std::vector<std::thread> all;
    for (int i = 0; i < 6; i++)
        all.emplace_back([&total, i] {
            for (int j = 0; j < 3000; j++) total += i * j % 17;
        });
    for (auto &thread : all) thread.join();
    auto later = std::async(std::launch::async, [] { return deep(0), 1; });
    try {
        later.get();
    } catch (const std::out_of_range &error) {
        std::cout << "from a thread: " << error.what() << '\n';
    }
    std::cout << total << '\n';
}

int main() {
    exceptions();
    containers();
    streams();
    threads();
}
